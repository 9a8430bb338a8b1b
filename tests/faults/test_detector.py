"""The leak detectors of a running testbed see what crosses when its rules are taken out."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from tests.conftest import RunningTestbed
from topologies.traffic.attack_frames import LAWFUL
from topologies.traffic.attempts import Crossing, attempt_crossings

FRAMES = 3
ALIEN = "table=0,priority=65535"


def leaked_frames(testbed: RunningTestbed) -> int:
    """What the receivers' detectors have counted since traffic started."""
    answer = rpc.call(testbed.run_folder / "receivers.sock", "leaks", 5.0)
    return sum(sum(host["frames_by_slice"].values()) for host in answer)


def ofctl(testbed: RunningTestbed, switch: str, *words: str) -> str:
    bridge = f"unix:{testbed.run_folder / 'ovs' / (switch + '.mgmt')}"
    *options, verb, match = words
    command = ["ovs-ofctl", "-O", "OpenFlow13", *options, verb, bridge, match]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def halted(testbed: RunningTestbed, process: str) -> Iterator[None]:
    """The keeper of the rules stands still for a moment, or it would repair them at once."""
    status = testbed.commands.json("status")
    pid = next(p["pid"] for p in status["processes"] if p["name"] == process)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def attempts(testbed: RunningTestbed) -> dict[str, Crossing]:
    inventory = Inventory.load(Path(testbed.run_folder) / "inventory.json")
    return attempt_crossings(inventory, FRAMES, "ue1")


def test_what_crosses_without_rules_is_seen(testbed: RunningTestbed) -> None:
    guarded = attempts(testbed)
    assert {name for name, c in guarded.items() if c.leaked} == set()
    assert leaked_frames(testbed) == 0
    switches = [s.name for s in Inventory.load(testbed.run_folder / "inventory.json").switches]
    with halted(testbed, "ric"):
        try:
            for switch in switches:
                # Every port gets everything, as from a hub: one cell's network has no loop.
                ofctl(testbed, switch, "add-flow", f"{ALIEN},actions=all")
            open_ = attempts(testbed)
        finally:
            for switch in switches:
                ofctl(testbed, switch, "--strict", "del-flows", ALIEN)
    unseen = [n for n, c in open_.items() if c.crosses_if_carried and not c.leaked]
    assert unseen == []
    assert all(open_[name].arrived for name in LAWFUL)
    assert leaked_frames(testbed) > len(open_)

    assert {name for name, c in attempts(testbed).items() if c.leaked} == set()
