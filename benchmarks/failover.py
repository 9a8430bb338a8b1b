"""Packets lost when a wire between switches fails, by its carrier or silently, and when it heals.

1,000 packets/s both ways between a user and the cloud, in scenario `ring`.  The
reference is the same failure without the second path.  A flapping wire (10 Hz) and
the return to the primary path are measured too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import testbed, write
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder, current_run
from topologies.namespaces import named_path
from topologies.path_probe import PathProbe, Span
from topologies.wire_faults import give_carrier, silence, take_carrier, unsilence

WIRE = ("ap1_2", "core_1")
RATE_PPS = 1000
BROKEN_S = 1.0
FLAP_HZ, FLAP_S = 10, 3.0
HEAL_TIMEOUT_S = 15.0
AFTER_HEAL_S = 1.0

Fault = Callable[[Path, Sequence[str]], None]
FAULTS: dict[str, tuple[Fault, Fault]] = {
    "carrier": (take_carrier, give_carrier),
    "silent": (silence, unsilence),
}


@dataclass(frozen=True)
class Running:
    run: RunFolder
    inventory: Inventory

    @property
    def namespace(self) -> Path:
        return named_path(self.run.namespace)

    def probe(self) -> PathProbe:
        user = self.inventory.user("ue1")
        session = next(s for s in user.sessions if s.slice_id == 2)
        service = next(s for s in self.inventory.services if s.slice_id == 2)
        here, there = self.inventory.host(user.host), self.inventory.host(service.host)
        return PathProbe(here, session.ip, there, service.address, RATE_PPS)

    def watched(self) -> bool:
        """BFD is on and finds both ends of the wire alive."""
        command = ["ovs-vsctl", "--timeout=5"]
        for name in WIRE:
            command += ["--", "get", "Interface", name, "bfd_status"]
        environment = {**os.environ, "OVS_RUNDIR": str(self.run.ovs)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        return done.stdout.count('forwarding="true"') == len(WIRE)


def figures(spans: tuple[Span, Span]) -> dict[str, Any]:
    up, down = spans
    return {
        "lost": [up.lost, down.lost],
        "gap_ms": [round(up.longest_gap_ms, 1), round(down.longest_gap_ms, 1)],
    }


def break_once(net: Running, kind: str, second_path: bool) -> dict[str, Any]:
    """Losses from the failure on, and from healing until the wire has been watched again."""
    fail, heal = FAULTS[kind]
    with net.probe() as probe:
        time.sleep(0.3)
        failing_ns = time.monotonic_ns()
        fail(net.namespace, WIRE)
        time.sleep(BROKEN_S)
        healing_ns = time.monotonic_ns()
        heal(net.namespace, WIRE)
        healed_ns = time.monotonic_ns()
        if second_path:
            deadline_s = time.monotonic() + HEAL_TIMEOUT_S
            while not net.watched():
                if time.monotonic() > deadline_s:
                    raise SystemExit(f"the wire is not back {HEAL_TIMEOUT_S:.0f} s after healing")
                time.sleep(0.1)
        time.sleep(AFTER_HEAL_S)
        end_ns = time.monotonic_ns()
    return {
        "failure": figures(probe.both(failing_ns, healing_ns)),
        "heal": figures(probe.both(healed_ns, end_ns)),
        "back_after_s": round((end_ns - healed_ns) / 1e9 - AFTER_HEAL_S, 2),
    }


def flap(net: Running) -> dict[str, Any]:
    """The carrier goes and comes ten times a second."""
    with net.probe() as probe:
        time.sleep(0.3)
        started_ns = time.monotonic_ns()
        while time.monotonic_ns() < started_ns + FLAP_S * 1e9:
            take_carrier(net.namespace, WIRE)
            time.sleep(0.5 / FLAP_HZ)
            give_carrier(net.namespace, WIRE)
            time.sleep(0.5 / FLAP_HZ)
        end_ns = time.monotonic_ns()
    up, down = probe.both(started_ns, end_ns)
    return {**figures((up, down)), "sent": up.sent, "flaps": round(FLAP_S * FLAP_HZ)}


def with_testbed(work: Callable[[Running], Any], *arguments: str) -> Any:
    testbed("up", "ring", "--policy", "static", *arguments)
    run = current_run()
    assert run is not None
    try:
        time.sleep(2)
        return work(Running(run, Inventory.load(run.inventory)))
    finally:
        testbed("down")


def summary(repetitions: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    lost = [n for r in repetitions for n in r[phase]["lost"]]
    gaps_ms = [ms for r in repetitions for ms in r[phase]["gap_ms"]]
    return {
        "samples": len(lost),
        "lost_median": statistics.median(lost),
        "lost_max": max(lost),
        "gap_ms_median": statistics.median(gaps_ms),
        "gap_ms_max": max(gaps_ms),
    }


def measure(kinds: Sequence[str], repetitions: int, flaps: int) -> Callable[[Running], Any]:
    def work(net: Running) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for kind in kinds:
            done = []
            for number in range(repetitions):
                done.append(break_once(net, kind, second_path=True))
                print(f"{kind} {number + 1}: {done[-1]}", flush=True)
            found[kind] = {
                "failure": summary(done, "failure"),
                "heal": summary(done, "heal"),
                "repetitions": done,
            }
        found["flapping"] = [flap(net) for _ in range(flaps)]
        print(f"flapping: {found['flapping']}", flush=True)
        return found

    return work


def reference(kinds: Sequence[str]) -> Callable[[Running], Any]:
    return lambda net: {kind: break_once(net, kind, second_path=False) for kind in kinds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--flaps", type=int, default=2, help="seconds-long bursts of flapping")
    parser.add_argument("--kind", choices=list(FAULTS), action="append", help="default: both")
    options = parser.parse_args()
    kinds = options.kind or list(FAULTS)
    found = with_testbed(measure(kinds, options.repetitions, options.flaps))
    without = with_testbed(reference(kinds), "--set", "links=[]")
    for kind in kinds:
        lost = without[kind]["failure"]["lost"]
        print(f"{kind}: {found[kind]['failure']}; healed: {found[kind]['heal']}")
        print(f"{kind} without a second path, {BROKEN_S:g} s broken: {lost} lost")
    path = write("failover", {"with_second_path": found, "without": without, "rate_pps": RATE_PPS})
    print(f"written to {path}")
    held = all(found[kind]["failure"]["gap_ms_max"] <= 50 for kind in kinds)
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
