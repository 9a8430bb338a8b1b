"""Packets lost, and the longest silence, while processes of a running testbed are killed.

1,000 packets/s both ways between a user and the cloud, in scenario `ring`: Ryu killed
again and again under traffic, Open vSwitch's daemons killed, Ryu and the RIC stopped
(SIGSTOP) until the watchdog replaces them.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from typing import Any

from benchmarks.failover import Running, with_testbed
from benchmarks.runs import write
from controller.contracts import rpc

BACK_TIMEOUT_S = 30.0
_POLL_S = 0.05


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often Ryu is killed")
    parser.add_argument("--others", type=int, default=3, help="how often each other strike is made")
    options = parser.parse_args()
    strikes = {
        "ryu killed": ("ryu", signal.SIGKILL, options.kills),
        "vswitchd killed": ("ovs-vswitchd", signal.SIGKILL, options.others),
        "ovsdb-server killed": ("ovsdb-server", signal.SIGKILL, options.others),
        "ryu stopped": ("ryu", signal.SIGSTOP, options.others),
        "ric stopped": ("ric", signal.SIGSTOP, options.others),
    }

    def work(net: Running) -> dict[str, Any]:
        return {
            name: struck(net, victim, number, times)
            for name, (victim, number, times) in strikes.items()
            if times
        }

    found = with_testbed(work)
    print(f"written to {write('faults', found)}")
    quiet = [n for n in found if n != "vswitchd killed"]
    return 0 if all(found[n]["lost"] == 0 for n in quiet) else 1


if __name__ == "__main__":
    raise SystemExit(main())
