"""Decisions on an emulated network: the live document, the live guard, the emulator's plan."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from controller.contracts.decisions import DecisionRequest
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.whatif.deciding import decided, view_of
from tests.ric_inventory import CONTROL, VIDEO, ric_inventory

SLICES = ric_inventory().slices
HELD = (
    Reservation(slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=8000, max_kbps=20_000),
    Reservation(slice_id=2, traffic_class=TrafficClass.REAL_TIME, min_kbps=2000, max_kbps=2000),
)
CELL = view_of("ap1", 20_000.0, 0.9, HELD)


def request(parameters: dict[str, Any], **changes: Any) -> DecisionRequest:
    document = {
        "trace_id": "t1",
        "xapp": "tester",
        "action": "reserve",
        "target": {"cell_id": "ap1"},
        "parameters": parameters,
        **changes,
    }
    return DecisionRequest.model_validate(document)


def one(s_nssai: dict[str, Any], min_kbps: float, max_kbps: float) -> dict[str, Any]:
    return {"reservations": [{"s_nssai": s_nssai, "min_kbps": min_kbps, "max_kbps": max_kbps}]}


def test_a_plan_that_passes_the_guard_is_carried_out() -> None:
    record, after = decided(request(one(VIDEO, 9000, 18_000)), CELL, SLICES)
    assert record.verdict == "applied"
    assert record.reason.startswith("emulated")
    assert {r.slice_id: r.min_kbps for r in after} == {1: 9000, 2: 2000}


def test_one_slice_may_be_named_in_the_target() -> None:
    target = {"cell_id": "ap1", "s_nssai": CONTROL}
    asked = request({"min_kbps": 3000, "max_kbps": 9000}, target=target)
    record, after = decided(asked, CELL, SLICES)
    assert record.verdict == "applied"
    assert {r.slice_id: r.max_kbps for r in after} == {1: 20_000, 2: 3000}  # shaped, as live


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (one(VIDEO, 9000, 30_000), "outside 12-20000"),
        (one(VIDEO, 19_000, 20_000), "8000 -> 19000"),
        (one(VIDEO, 17_000, 20_000), "minima would sum to 19000"),
    ],
)
def test_what_the_guard_refuses_changes_nothing(parameters: dict[str, Any], words: str) -> None:
    record, after = decided(request(parameters), CELL, SLICES)
    assert record.verdict == "rejected"
    assert words in record.reason
    assert set(after) == set(HELD)


def test_what_is_no_reservation_of_this_network_raises() -> None:
    with pytest.raises(ValueError, match="only reserves"):
        decided(request({}, action="handover"), CELL, SLICES)
    with pytest.raises(ValueError, match="unknown slice 3-000009"):
        decided(request(one({"sst": 3, "sd": "000009"}, 1, 12)), CELL, SLICES)
    with pytest.raises(ValidationError):
        decided(request(one(VIDEO, float("nan"), 12)), CELL, SLICES)
