"""Loss, reordering and ping-pongs of handovers; the phases of break-before-make."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controller.contracts.inventory import HandoverConfig
from controller.handover import plan
from controller.network_view import network_of
from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory
from topologies.results.evidence import Attachment
from topologies.results.handovers import ping_pongs

S_NS = 1_000_000_000
INVENTORY = planned_inventory(two_cells())


def visits(*at: tuple[float, str]) -> list[Attachment]:
    return [Attachment(round(s * S_NS), "ue1", cell) for s, cell in at]


def test_back_within_a_second_is_a_ping_pong() -> None:
    there_and_back = visits((0, "a"), (10, "b"), (10.9, "a"))
    assert ping_pongs(there_and_back, 0, 20 * S_NS) == 1
    assert ping_pongs(visits((0, "a"), (10, "b"), (11.1, "a")), 0, 20 * S_NS) == 0
    assert ping_pongs(visits((0, "a"), (10, "b"), (10.9, "c")), 0, 20 * S_NS) == 0
    assert ping_pongs(there_and_back, 12 * S_NS, 20 * S_NS) == 0


def test_the_air_comes_last_and_not_before_the_interruption_is_over() -> None:
    first, path, last = plan(network_of(INVENTORY), "ap1", "ap2", "break_before_make", 80).switching
    assert first.attachment.uplink is None and not first.attachment.accepted
    assert path.steps == (("ap2",), ("core",)) and not path.attachment.accepted
    assert last.steps == (("air",),) and last.after_break_ms == 80


def test_make_before_break_has_no_interruption() -> None:
    with pytest.raises(ValidationError, match="needs kind break_before_make"):
        HandoverConfig(interruption_ms=50)


def test_only_the_switches_on_the_way_are_touched() -> None:
    for kind in ("make_before_break", "break_before_make"):
        steps = plan(network_of(INVENTORY), "ap1", "ap2", kind)  # type: ignore[arg-type]
        touched = {n for p in (*steps.switching, *steps.clearing) for g in p.steps for n in g}
        assert touched == {"ap1", "ap2", "core", "air"}
