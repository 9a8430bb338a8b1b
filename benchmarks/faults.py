"""Packets lost, and the longest silence, while processes of a running testbed are killed.

1,000 packets/s both ways between a user and the cloud, in scenario `ring`: Ryu killed
again and again under traffic, Open vSwitch's daemons killed, Ryu and the RIC stopped
(SIGSTOP) until the watchdog replaces them, and both gone for a long time.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.failover import Running, with_testbed
from benchmarks.runs import write
from controller.contracts import rpc

BACK_TIMEOUT_S = 30.0
REPLACED_WITHIN_S = 5.0
FORWARDING_WITHIN_MS = 1000.0
_POLL_S = 0.05
_STATISTICS = re.compile(r"(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ?")


def process(net: Running, name: str) -> dict[str, Any]:
    status = rpc.call(net.run.emulation_socket, "status", 10.0)
    found: dict[str, Any] = next(p for p in status["processes"] if p["name"] == name)
    return found


def connected(net: Running) -> bool:
    """The RIC works and every switch has its controller."""
    try:
        status = rpc.call(net.run.ric_socket, "status", 1.0)
    except rpc.RpcError:
        return False
    return status["ready"] and len(status["connected"]) == len(net.inventory.switches)


def strike(net: Running, name: str, number: signal.Signals) -> dict[str, float]:
    """Signal the process; seconds until another took its place, and until all is connected."""
    old, started_s = process(net, name)["pid"], time.monotonic()
    os.kill(old, number)
    replaced_s = None
    while replaced_s is None or not connected(net):
        if replaced_s is None and process(net, name)["pid"] != old:
            replaced_s = time.monotonic() - started_s
        if time.monotonic() - started_s > BACK_TIMEOUT_S:
            raise SystemExit(f"{name} is not back {BACK_TIMEOUT_S:.0f} s after {number.name}")
        time.sleep(_POLL_S)
    connected_s = time.monotonic() - started_s
    return {"replaced_s": round(replaced_s, 2), "connected_s": round(connected_s, 2)}


def struck(net: Running, name: str, number: signal.Signals, times: int) -> dict[str, Any]:
    """All under one stream of probes; losses of each strike and of all together."""
    strikes = []
    with net.probe() as probe:
        time.sleep(0.5)
        for _ in range(times):
            start_ns = time.monotonic_ns()
            done: dict[str, Any] = dict(strike(net, name, number))
            done["span_ns"] = start_ns, time.monotonic_ns()
            strikes.append(done)
    for done in strikes:
        spans = probe.both(*done.pop("span_ns"))
        done["lost"] = [s.lost for s in spans]
        done["longest_gap_ms"] = round(max(s.longest_gap_ms for s in spans), 1)
    sent = sum(len(d.sent_ns) for d in (probe.left_to_right, probe.right_to_left))
    found = {"times": times, "sent": sent, "lost": probe.lost(), "strikes": strikes}
    worst_ms = max(s["longest_gap_ms"] for s in strikes)
    print(
        f"{name} {number.name} {times} times: {found['lost']} of {sent} packets lost, "
        f"longest silence {worst_ms:g} ms, replaced within "
        f"{max(s['replaced_s'] for s in strikes):g} s",
        flush=True,
    )
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def flows(net: Running) -> dict[str, list[str]]:
    """What each switch carries, counters left out."""
    found = {}
    for switch in net.inventory.switches:
        bridge = f"unix:{net.run.ovs / (switch.name + '.mgmt')}"
        command = ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", bridge]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[switch.name] = sorted(_STATISTICS.sub("", f) for f in shown.splitlines()[1:])
    return found


def without_controllers(net: Running, seconds: float) -> dict[str, Any]:
    """Ryu and the RIC are gone, and so is who would start them again."""
    pids = [process(net, name)["pid"] for name in ("ryu", "ric")]
    supervisor, before = parent_of(pids[0]), flows(net)
    with net.probe() as probe:
        os.kill(supervisor, signal.SIGSTOP)
        try:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            time.sleep(seconds)
            same = flows(net) == before
        finally:
            os.kill(supervisor, signal.SIGCONT)
        started_s = time.monotonic()
        while not connected(net):
            if time.monotonic() - started_s > BACK_TIMEOUT_S:
                raise SystemExit(f"no controller {BACK_TIMEOUT_S:.0f} s after its return")
            time.sleep(_POLL_S)
    sent = sum(len(d.sent_ns) for d in (probe.left_to_right, probe.right_to_left))
    found = {"seconds": seconds, "sent": sent, "lost": probe.lost(), "flows_same": same}
    print(f"without controllers for {seconds:g} s: {found}", flush=True)
    return found


def held(found: dict[str, Any]) -> bool:
    """Every bound that a row of faults states."""
    lossless = all(f["lost"] == 0 for name, f in found.items() if name != "vswitchd killed")
    stopped = [s for name in ("ryu stopped", "ric stopped") for s in found[name]["strikes"]]
    killed = found["vswitchd killed"]["strikes"]
    return (
        lossless
        and all(s["replaced_s"] <= REPLACED_WITHIN_S for s in stopped)
        and all(s["longest_gap_ms"] <= FORWARDING_WITHIN_MS for s in killed)
        and found["without controllers"]["flows_same"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often Ryu is killed")
    parser.add_argument("--others", type=int, default=3, help="how often each other strike is made")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how long there is no controller; row 7: 600"
    )
    options = parser.parse_args()
    strikes = {
        "ryu killed": ("ryu", signal.SIGKILL, options.kills),
        "vswitchd killed": ("ovs-vswitchd", signal.SIGKILL, options.others),
        "ovsdb-server killed": ("ovsdb-server", signal.SIGKILL, options.others),
        "ryu stopped": ("ryu", signal.SIGSTOP, options.others),
        "ric stopped": ("ric", signal.SIGSTOP, options.others),
    }

    def work(net: Running) -> dict[str, Any]:
        found = {
            name: struck(net, victim, number, times)
            for name, (victim, number, times) in strikes.items()
        }
        found["without controllers"] = without_controllers(net, options.seconds)
        return found

    found = with_testbed(work)
    print(f"written to {write('faults', found)}")
    return 0 if held(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
