"""How long echoes of others wait while very many flows are pushed to one switch.

The real Ryu application and a private Open vSwitch with two bridges.  Ryu's echoes are
asked for by a peer that stands for another switch, Open vSwitch's at the bridge
that gets nothing.  The reference is the same without a push, in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.runs import write
from controller.contracts import rpc
from controller.contracts.run_folder import RunFolder
from topologies import cleanup, namespaces
from topologies.bridges import controller_of, controller_target
from topologies.echo_probe import EchoProbe
from topologies.manifest import RUN_ID_VARIABLE, create_run_folder
from topologies.network import enter_run_namespace
from topologies.ovs import PrivateOvs

DPIDS = {"pushed": 1, "other": 2, "peer": 3}
BRIDGES = ("pushed", "other")
PORT = 6653
COOKIE = 0x486F_01FF_0000_0000
"""Ours, of a rule that is no slice's."""
SECTIONS = (
    "meters_add", "meters_modify", "flows_add", "flows_delete", "meters_delete",
    "groups_add", "groups_modify", "groups_delete", "aliens_delete",
)  # fmt: skip
PART_ITEMS = 1000
"""In one line to Ryu, as the RIC does it."""
A_FLOW = b'"table_id"'
PUSH_TIMEOUT_S = 300.0
QUIET_S = 2.0
START_TIMEOUT_S = 60.0
ECHO_GAP_MS = 100.0
"""What nobody's echo may wait."""


@dataclass(frozen=True)
class Waits:
    """Echoes of Ryu's peer and of the other bridge, while something went on for `wall_s`."""

    wall_s: float
    ryu_longest_ms: float
    ryu_p99_ms: float
    switch_longest_ms: float
    switch_p99_ms: float
    echoes: int


def flows(count: int) -> list[dict[str, Any]]:
    """Different ones, as the RIC says them to Ryu, of the shape that most of ours have."""
    return [
        {
            "table_id": 4,
            "priority": 300,
            "match": {
                "eth_type": 0x0800,
                "ipv4_dst": f"10.{n >> 16 & 15}.{n >> 8 & 255}.{n & 255}",
            },
            "cookie": COOKIE,
            "actions": [],
            "metadata": [1 << 16, 0xFFFF << 16],
            "meter_id": None,
            "goto": 5,
        }
        for n in range(count)
    ]


@contextlib.contextmanager
def controlled_bridges() -> Iterator[RunFolder]:
    """Two bridges of a private Open vSwitch, connected to Ryu; we are in their namespace."""
    root = Path(tempfile.mkdtemp(prefix="holon-push-"))
    run = RunFolder(root / f"push-{os.getpid()}")
    manifest = create_run_folder(run)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    ovs, ryu = PrivateOvs(run, manifest), None
    try:
        enter_run_namespace(run)
        ovs.start()
        for name in BRIDGES:
            ovs.vsctl(_bridge(name))
        switches = [{"name": name, "dpid": dpid} for name, dpid in DPIDS.items()]
        document = {"openflow_tcp_port": PORT, "switches": switches}
        run.inventory.write_bytes(orjson.dumps(document))
        ryu = _start_ryu(run)
        yield run
    finally:
        if ryu is not None:
            ryu.kill()
            ryu.wait()
        ovs.stop()
        namespaces.enter(f"/proc/self/fd/{home}")
        os.close(home)
        cleanup.remove(run)
        shutil.rmtree(root, ignore_errors=True)


def _bridge(name: str) -> list[str]:
    settings = ["datapath_type=netdev", "protocols=OpenFlow13", "other_config:disable-in-band=true"]
    number = f"other_config:datapath-id={DPIDS[name]:016x}"
    words = ["add-br", name, "--", "set", "Bridge", name, *settings, number, "--"]
    return [*words, *controller_of(name, controller_target(PORT))]


def _start_ryu(run: RunFolder) -> subprocess.Popen[bytes]:
    with (run.logs / "ryu.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "controller.ryu_launcher", str(run.path)],
            stdout=log,
            stderr=log,
            env={**os.environ, RUN_ID_VARIABLE: run.run_id},
        )


@contextlib.contextmanager
def _echoes(run: RunFolder) -> Iterator[tuple[EchoProbe, EchoProbe]]:
    """Of Ryu, and of the bridge that gets nothing."""
    to_ryu = socket.create_connection(("127.0.0.1", PORT))
    # Or the next question waits for the answer to the last: 40 ms of delayed acknowledgement.
    to_ryu.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    to_switch = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    to_switch.connect(str(run.ovs / "other.mgmt"))
    with EchoProbe(to_ryu, DPIDS["peer"]) as ryu, EchoProbe(to_switch) as switch:
        yield ryu, switch


def _waits(started_s: float, ryu: EchoProbe, switch: EchoProbe) -> Waits:
    return Waits(
        round(time.monotonic() - started_s, 2),
        round(ryu.longest_ms(), 1),
        round(ryu.p99_ms(), 1),
        round(switch.longest_ms(), 1),
        round(switch.p99_ms(), 1),
        len(ryu.waits_ms),
    )


def _await_bridges(run: RunFolder) -> None:
    wanted = {str(DPIDS[name]) for name in BRIDGES}
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(rpc.RpcError):
            if wanted <= set(rpc.call(run.ryu_socket, "status", 2.0)["switches"]):
                return
        time.sleep(0.1)
    raise SystemExit(f"the bridges are not connected within {START_TIMEOUT_S:.0f} s")


def _push(ryu: rpc.Connection, section: str, wanted: list[dict[str, Any]], generation: int) -> None:
    dpid = DPIDS["pushed"]
    for start in range(0, len(wanted), PART_ITEMS):
        part = wanted[start : start + PART_ITEMS]
        ryu.call("stage", generation=generation, dpid=dpid, section=section, items=part)
    changes: dict[str, Any] = {str(dpid): {name: [] for name in SECTIONS}}
    answer = ryu.call("change", generation=generation, changes=changes)[str(dpid)]
    if not answer["confirmed"]:
        raise SystemExit(f"the push was not confirmed: {answer['detail']}")


def _read(run: RunFolder, count: int) -> None:
    """Counted only: decoding many would keep the echoes of this process waiting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ryu:
        ryu.connect(str(run.ryu_socket))
        request = {"op": "read", "dpid": DPIDS["pushed"]}
        ryu.sendall(orjson.dumps(request) + b"\n")
        found, last = 0, b""
        while not last.endswith(b"\n"):
            chunk = ryu.recv(1 << 16)
            if not chunk:
                raise SystemExit("Ryu hung up")
            found += (last[-len(A_FLOW) + 1 :] + chunk).count(A_FLOW)
            last = chunk
    if found != count:
        raise SystemExit(f"{found} flows instead of {count}")


def measure(run: RunFolder, count: int) -> dict[str, Waits]:
    """Nothing; `count` flows added; all of them read; all of them deleted."""
    _await_bridges(run)
    wanted, found = flows(count), {}
    gc.collect()
    gc.freeze()  # or a collection of ours would look like a wait of theirs
    with rpc.Connection(run.ryu_socket, timeout_s=PUSH_TIMEOUT_S) as ryu:
        steps: dict[str, Callable[[], None]] = {
            "nothing": lambda: time.sleep(QUIET_S),
            "added": lambda: _push(ryu, "flows_add", wanted, 1),
            "read": lambda: _read(run, count),
            "deleted": lambda: _push(ryu, "flows_delete", wanted, 2),
        }
        for name, step in steps.items():
            started_s = time.monotonic()
            with _echoes(run) as (of_ryu, of_switch):
                step()
            found[name] = _waits(started_s, of_ryu, of_switch)
            print(f"{name}: {found[name]}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=100_000)
    options = parser.parse_args()
    with controlled_bridges() as run:
        found = measure(run, options.flows)
    figures: dict[str, Any] = {name: vars(waits) for name, waits in found.items()}
    path = write("push", {"flows": options.flows, "bound_ms": ECHO_GAP_MS, **figures})
    print(f"written to {path}")
    worst_ms = max(max(w.ryu_longest_ms, w.switch_longest_ms) for w in found.values())
    return 0 if worst_ms < ECHO_GAP_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
