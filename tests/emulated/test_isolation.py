"""No crafted frame crosses a slice of a running testbed, while lawful ones arrive."""

from __future__ import annotations

import pytest

from controller.contracts.inventory import Inventory
from tests.conftest import RunningTestbed
from topologies.traffic.attack_frames import LAWFUL
from topologies.traffic.attempts import attempt_crossings

FRAMES = 20


@pytest.mark.parametrize("attacker", ["ue1", "ue2"])
def test_no_attempt_crosses(testbed: RunningTestbed, attacker: str) -> None:
    inventory = Inventory.load(testbed.run_folder / "inventory.json")
    crossings = attempt_crossings(inventory, FRAMES, attacker)
    lawful = {name: crossings.pop(name).arrived for name in LAWFUL}
    assert set(lawful.values()) == {FRAMES}, "without these, silence would prove nothing"
    assert len(crossings) >= 100
    leaked = {name: c for name, c in crossings.items() if c.leaked}
    assert not leaked
