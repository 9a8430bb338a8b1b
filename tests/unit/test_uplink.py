"""What a local controller sends of closed windows: only what slices' twins want to hear."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts import aggregate_wire
from controller.contracts.twin_messages import CellAggregate
from controller.contracts.twin_models import Override
from controller.local import wire
from controller.local.aggregation import SliceSample
from controller.local.cell_windows import ClosedWindow
from controller.local.model_control import ModelControl
from controller.local.reaction import Observations
from controller.local.uplink import Uplink
from tests.sample_inventory import sample_inventory

INVENTORY = sample_inventory()
CELL = INVENTORY.cells[0]
COARSE, OTHER = INVENTORY.slices[:2]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Payloads that left; no address of an edge exists here to send from."""
    payloads: list[bytes] = []
    monkeypatch.setattr(wire, "aggregate_socket", lambda edge: None)
    monkeypatch.setattr(wire, "send_aggregate", lambda _, payload: payloads.append(payload))
    return payloads


def window(number: int) -> ClosedWindow:
    end_ns = (number + 1) * INVENTORY.twins.report_period_ms * 1_000_000
    of_both = {s.slice_id: SliceSample(1234.0, 0.0, 1234.0, 5.0) for s in (COARSE, OTHER)}
    return ClosedWindow(CELL.cell_id, number, end_ns, True, [of_both, of_both], 2)


def received(sent: list[bytes], numbers: list[int], *overrides: Override) -> list[CellAggregate]:
    edge = INVENTORY.host(CELL.edge)
    models = ModelControl(INVENTORY, CELL.edge, overrides, lambda *_: None, lambda _: False)
    way = Uplink(INVENTORY, edge, Observations(), models.slices_due)
    way.send([window(n) for n in numbers])
    return [a for payload in sent for a in aggregate_wire.decode(payload, INVENTORY.cells)]


def coarse(**changes: Any) -> Override:
    said = {"slice_twin": str(COARSE.s_nssai), "changes": changes}
    return Override.model_validate(said)


def test_a_slice_that_is_not_due_is_left_out_and_the_others_are_not(sent: list[bytes]) -> None:
    period_ms = 4 * INVENTORY.twins.report_period_ms
    arrived = received(sent, [4, 5, 6, 7, 8], coarse(period_ms=period_ms))
    with_it = [a.window for a in arrived if COARSE.slice_id in {d.slice_id for d in a.slices}]
    assert with_it == [4, 8]
    assert all(OTHER.slice_id in {d.slice_id for d in a.slices} for a in arrived)
    assert all((a.users_reported, a.users_expected) == (2, 2) for a in arrived)


def test_what_is_due_arrives_rounded_as_its_twins_model_says(sent: list[bytes]) -> None:
    (arrived,) = received(sent, [4], coarse(precision={"demand_kbps": 500}))
    kbps = {d.slice_id: d.demand_kbps for d in arrived.slices}
    assert kbps[COARSE.slice_id] == 2500
    assert kbps[OTHER.slice_id] == 2468


def test_an_aggregate_of_no_due_slice_still_says_who_reported(sent: list[bytes]) -> None:
    period_ms = 4 * INVENTORY.twins.report_period_ms
    for_all = Override.model_validate({"type": "slice", "changes": {"period_ms": period_ms}})
    (arrived,) = received(sent, [5], for_all)
    assert (arrived.slices, arrived.users_reported) == ([], 2)
