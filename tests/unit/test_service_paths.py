"""The rules of a service that moves: switch after switch, each when the wires have drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import yaml

from controller.network_state import initial_state
from controller.network_view import network_of
from controller.reconcile import Change
from controller.ryu_client import Answer
from controller.service_paths import REVALIDATED_MS, ServicePaths
from controller.switches import Switches
from tests.planned_network import planned_inventory
from topologies.scenario.loader import SCENARIOS_FOLDER

DOCUMENT = yaml.safe_load((SCENARIOS_FOLDER / "migration.yaml").read_text())


class Recorder:
    """A Ryu that confirms everything and notes when."""

    def __init__(self) -> None:
        self.changed_s: dict[str, float] = {}

    async def change(
        self, changes: Mapping[str, Change], generation: int, purpose: str
    ) -> dict[str, Answer]:
        self.changed_s |= dict.fromkeys(changes, time.monotonic())
        return {name: Answer(True, "", time.time_ns()) for name in changes}


def test_the_far_side_is_first_and_the_wires_drain_in_between() -> None:
    """What is on a wire when the switch behind it changes would have no way to go."""
    network = network_of(planned_inventory(DOCUMENT))
    ryu: Any = Recorder()
    paths = ServicePaths(Switches(network, initial_state(network.inventory), ryu))
    result = asyncio.run(paths.lead_to("assist1", "edge2"))
    assert result.confirmed
    assert list(ryu.changed_s) == ["east", "core", "west"]
    for before, after in (("east", "core"), ("core", "west")):
        wire_ms = max(p.delay_ms for p in network.ports[before])
        waited_ms = 1000 * (ryu.changed_s[after] - ryu.changed_s[before])
        assert wire_ms > 0 and waited_ms >= wire_ms + REVALIDATED_MS
