"""TCP goodput through the slice pipeline over plain NORMAL switching, same path, same run.

Pairs are interleaved: for each, iperf3 through the pipeline, then with one
flow of the highest priority that makes every switch on the path behave like a
learning switch.  Both carry the same addresses over the same queue trees and,
because both send with the DSCP that the pipeline writes, through the same queues:
unmarked packets would meet queue 0's ceiling where no rule marks them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
from pathlib import Path

from benchmarks.runs import testbed, write
from controller.contracts.slices import TrafficClass, dscp_of

SWITCHES = ("air", "ap1", "core")
NORMAL = "cookie=0xdeb0000000000000,priority=65535,actions=NORMAL"
DSCP = dscp_of(1, TrafficClass.ELASTIC)
ASKED_RATIO = 0.97


def environment() -> dict[str, str]:
    """What `./testbed.sh env` exports."""
    exported = dict(os.environ)
    for line in testbed("env").stdout.splitlines():
        if line.startswith("export "):
            key, _, value = line.removeprefix("export ").partition("=")
            exported[key] = shlex.split(value)[0]
    return exported


def ofctl(exported: dict[str, str], *command: str, flow: str) -> None:
    for switch in SWITCHES:
        target = f"{exported['OVS_RUNDIR']}/{switch}.mgmt"
        subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow13", *command, target, flow],
            check=True,
            env=exported,
        )


def ends_of(run_folder: Path) -> dict[str, dict[str, str]]:
    """MAC and slice address of the user and the server."""
    inventory = json.loads((run_folder / "inventory.json").read_text())
    hosts = {h["name"]: h for h in inventory["hosts"]}
    user_ip = next(a["ip"] for a in hosts["ue1"]["addresses"] if a["slice_id"] == 1)
    return {
        "ue1": {"mac": hosts["ue1"]["mac"], "ip": user_ip},
        "cloud": {"mac": hosts["cloud"]["mac"], "ip": inventory["services"][0]["address"]},
    }


def neighbours(ends: dict[str, dict[str, str]], change: str) -> None:
    """Point each end straight at the other's MAC (`replace`), or no longer (`del`)."""
    for here, there in (("ue1", "cloud"), ("cloud", "ue1")):
        interface, ip = f"{here}-eth0", ends[there]["ip"]
        if change == "replace":
            testbed("exec", here, "--", "ip", "neigh", "replace", ip, "lladdr",
                    ends[there]["mac"], "dev", interface, "nud", "permanent")  # fmt: skip
            testbed("exec", here, "--", "ip", "route", "replace", f"{ip}/32", "dev", interface,
                    "src", ends[here]["ip"])  # fmt: skip
        else:
            testbed("exec", here, "--", "ip", "route", "del", f"{ip}/32", "dev", interface)


def transfer_mbps(ends: dict[str, dict[str, str]], seconds: int) -> float:
    out = testbed(
        "exec", "ue1", "--", "iperf3", "-c", ends["cloud"]["ip"], "-B", ends["ue1"]["ip"],
        "-R", "-J", "-t", str(seconds), "--dscp", str(DSCP),
    )  # fmt: skip
    received: float = json.loads(out.stdout)["end"]["sum_received"]["bits_per_second"]
    return received / 1e6


def normal_transfer_mbps(
    exported: dict[str, str], ends: dict[str, dict[str, str]], seconds: int
) -> float:
    """The same transfer while every switch only learns and forwards."""
    neighbours(ends, "replace")
    ofctl(exported, "add-flow", flow=NORMAL)
    try:
        return transfer_mbps(ends, seconds)
    finally:
        ofctl(exported, "--strict", "del-flows", flow="priority=65535")
        neighbours(ends, "del")


def await_server(ends: dict[str, dict[str, str]]) -> None:
    """Until iperf3 at the server answers; SystemExit when it does not."""
    once = f"iperf3 -c {ends['cloud']['ip']} -B {ends['ue1']['ip']} -t 1 >/dev/null"
    tries = f"for i in 1 2 3 4 5 6 7 8 9 10; do {once} && exit 0; sleep 0.2; done; exit 1"
    testbed("exec", "ue1", "--", "sh", "-c", tries)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    testbed("up", "goodput", "--policy", "static")
    server = None
    try:
        exported = environment()
        ends = ends_of(Path(exported["HOLON_RUN"]))
        server = subprocess.Popen(
            ["./testbed.sh", "exec", "cloud", "--", "iperf3", "-s", "-B", ends["cloud"]["ip"]],
            stdout=subprocess.DEVNULL,
        )
        await_server(ends)
        ratios = []
        for pair in range(1, options.pairs + 1):
            # The order changes from pair to pair, so that a drift favours neither.
            if pair % 2:
                pipeline_mbps = transfer_mbps(ends, options.seconds)
                normal_mbps = normal_transfer_mbps(exported, ends, options.seconds)
            else:
                normal_mbps = normal_transfer_mbps(exported, ends, options.seconds)
                pipeline_mbps = transfer_mbps(ends, options.seconds)
            ratios.append(pipeline_mbps / normal_mbps)
            print(f"pair {pair}: pipeline {pipeline_mbps:.0f}, NORMAL {normal_mbps:.0f} Mbit/s, "
                  f"ratio {ratios[-1]:.3f}", flush=True)  # fmt: skip
    finally:
        testbed("down")
        if server is not None:
            server.wait(timeout=10)
    median = statistics.median(ratios)
    print(f"median ratio {median:.3f} of {len(ratios)} pairs (wanted >= {ASKED_RATIO})")
    print(f"written to {write('goodput', {'ratios': ratios, 'median': median})}")
    return 0 if median >= ASKED_RATIO else 1


if __name__ == "__main__":
    raise SystemExit(main())
