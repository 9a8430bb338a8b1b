"""Slice and cell twins: what aggregates, reservations, counters and forecasts make of them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.twins.level_two import LevelTwo, MeasuredRate, is_sla_satisfied, total_demand
from controller.twins.twin import Attribute, Prediction, Twin, twin_document, twin_summary, updated
from tests.ric_inventory import ric_inventory

SECOND_NS = 1_000_000_000
VIDEO, CONTROL = "1-000001", "2-000002"


def demand(slice_id: int, demand_kbps: float, **changes: Any) -> SliceDemand:
    values = {
        "users": 1,
        "goodput_kbps": demand_kbps * 0.9,
        "loss_ratio": 0.0,
        "owd_p95_ms": 5.0,
        **changes,
    }
    return SliceDemand(slice_id=slice_id, demand_kbps=demand_kbps, **values)


def aggregate(cell_id: str, window: int, *slices: SliceDemand) -> CellAggregate:
    completed_at_ns = (window + 1) * SECOND_NS // 2
    return CellAggregate(
        trace_id=f"{cell_id}-{window}",
        edge="edge1",
        cell_id=cell_id,
        window=window,
        period_ms=500,
        completed_at_ns=completed_at_ns,
        sent_at_ns=completed_at_ns,
        users_reported=2,
        users_expected=2,
        slices=list(slices),
    )


def level_two() -> LevelTwo:
    return LevelTwo(ric_inventory())


def value(twin: Twin, name: str) -> float | None:
    return twin.attributes[name].value


def test_an_aggregate_is_in_the_cells_and_the_slices_twin() -> None:
    twins = level_two()
    changed = twins.apply_aggregate(aggregate("ap1", 10, demand(1, 4000), demand(2, 500)), 1)
    assert {(t.kind, t.twin_id) for t in changed} == {
        ("slice", VIDEO),
        ("slice", CONTROL),
        ("cell", "ap1"),
    }
    assert value(twins.cells["ap1"], f"demand_kbps.{VIDEO}") == 4000
    assert value(twins.cells["ap1"], "users_expected") == 2
    assert value(twins.slices[VIDEO], "demand_kbps.ap1") == 4000
    assert value(twins.slices[CONTROL], "demand_kbps") == 500
    assert twins.cells["ap2"].version == 0


def test_a_slices_totals_are_over_cells_that_still_speak() -> None:
    twins = level_two()
    twins.apply_aggregate(aggregate("ap1", 10, demand(1, 4000, loss_ratio=0.1, owd_p95_ms=9)), 1)
    twins.apply_aggregate(aggregate("ap2", 10, demand(1, 1000, loss_ratio=0.0, owd_p95_ms=3)), 2)
    video = twins.slices[VIDEO]
    assert value(video, "demand_kbps") == 5000
    assert value(video, "users") == 2
    assert value(video, "loss_ratio") == pytest.approx(0.08)
    assert value(video, "owd_p95_ms") == 9
    twins.apply_aggregate(aggregate("ap2", 13, demand(1, 1000)), 3)
    assert value(twins.slices[VIDEO], "demand_kbps") == 5000
    twins.apply_aggregate(aggregate("ap2", 14, demand(1, 1000)), 4)
    assert value(twins.slices[VIDEO], "demand_kbps") == 1000


@pytest.mark.parametrize("window", [10, 9])
def test_late_and_repeated_windows_change_nothing(window: int) -> None:
    twins = level_two()
    twins.apply_aggregate(aggregate("ap1", 10, demand(1, 4000)), 1)
    before = twins.cells["ap1"]
    assert twins.apply_aggregate(aggregate("ap1", window, demand(1, 1)), 2) == []
    assert twins.cells["ap1"] is before


def test_the_fillers_slice_has_no_twin() -> None:
    twins = level_two()
    twins.apply_aggregate(aggregate("ap1", 10, demand(15, 9000)), 1)
    filler = Reservation(
        slice_id=15, traffic_class=TrafficClass.BEST_EFFORT, min_kbps=12, max_kbps=100
    )
    twins.apply_reservations("ap1", [filler], 2)
    assert set(twins.slices) == {VIDEO, CONTROL}
    assert not any("15-" in name for name in twins.cells["ap1"].attributes)
    assert value(twins.cells["ap1"], "reserved_kbps") == 12


def test_reservations_are_per_cell_and_summed_over_the_network() -> None:
    twins = level_two()
    held = Reservation(
        slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=8000, max_kbps=20_000
    )
    twins.apply_reservations("ap1", [held], 1)
    twins.apply_reservations("ap2", [held.model_copy(update={"min_kbps": 3000})], 2)
    assert value(twins.slices[VIDEO], "min_kbps.ap1") == 8000
    assert value(twins.slices[VIDEO], "reserved_kbps") == 11_000
    assert value(twins.cells["ap2"], f"min_kbps.{VIDEO}") == 3000
    assert value(twins.cells["ap2"], "reservable_kbps") == 18_000


def test_counters_and_forecasts_stand_beside_what_users_reported() -> None:
    twins = level_two()
    twins.apply_aggregate(aggregate("ap1", 10, demand(1, 4000)), 1)
    rates = [
        MeasuredRate("ap1", 1, TrafficClass.ELASTIC, 4100.0, 4000.0),
        MeasuredRate("ap1", 1, TrafficClass.BEST_EFFORT, 900.0, None),
        MeasuredRate("ap1", 15, TrafficClass.BEST_EFFORT, 9000.0, None),
    ]
    twins.apply_rates(rates, 500, 2)
    twins.apply_prediction("ap1", 1, Prediction(6000.0, 3, "planner"))
    assert value(twins.slices[VIDEO], "arrived_kbps.ap1") == 5000
    assert value(twins.slices[VIDEO], "delivered_kbps.ap1") == 4000
    assert value(twins.cells["ap1"], f"utilisation_ratio.{VIDEO}") == 0.2
    document = twin_document(twins.cells["ap1"], 10)
    shown = document["attributes"][f"demand_kbps.{VIDEO}"]
    assert shown["value"] == 4000
    assert shown["predicted"] == {"value": 6000.0, "made_at": 3, "source": "planner"}
    twins.apply_aggregate(aggregate("ap1", 11, demand(1, 4500)), 4)
    kept = twins.cells["ap1"].attributes[f"demand_kbps.{VIDEO}"]
    assert kept.value == 4500
    assert kept.predicted is not None


def test_an_attribute_says_unit_source_and_age() -> None:
    twins = level_two()
    twins.apply_aggregate(aggregate("ap1", 1, demand(1, 4000)), SECOND_NS + 7)
    shown = twin_document(twins.slices[VIDEO], 3 * SECOND_NS)["attributes"]["demand_kbps.ap1"]
    assert shown == {
        "value": 4000.0,
        "unit": "kbit/s",
        "measured_at": SECOND_NS,
        "age_ms": 2000.0,
        "period_ms": 500,
        "source": "aggregate:edge1",
    }


def test_versions_count_updates_and_an_unborn_twin_has_no_age() -> None:
    twin = Twin("cell", "ap1")
    assert twin_summary(twin, 5) == {"kind": "cell", "id": "ap1", "version": 0, "age_ms": None}
    twin = updated(twin, {"users_reported": Attribute(1, 1, None, "test")}, 2_000_000)
    assert twin_summary(twin, 3_000_000)["age_ms"] == 1.0
    assert twin.version == 1


@pytest.mark.parametrize(
    ("slice_index", "changes", "satisfied"),
    [
        (0, {}, True),
        (0, {"loss_ratio": 0.5}, False),
        (0, {"owd_p95_ms": 101.0}, False),
        (0, {"owd_p95_ms": None}, True),
        (1, {"loss_ratio": 0.02}, False),
        (1, {"loss_ratio": 0.005}, True),
    ],
)
def test_sla_as_users_see_it(slice_index: int, changes: dict[str, Any], satisfied: bool) -> None:
    slice_ = ric_inventory().slices[slice_index]
    assert is_sla_satisfied(slice_, demand(slice_.slice_id, 3000, **changes)) is satisfied


def test_demand_above_the_guarantee_may_be_lost_where_loss_is_no_term() -> None:
    video = ric_inventory().slices[0]
    assert is_sla_satisfied(video, demand(1, 24_000, loss_ratio=0.5))
    assert not is_sla_satisfied(video, demand(1, 24_000, loss_ratio=0.51))


def test_no_demand_at_all_has_no_total() -> None:
    assert total_demand([]) is None
    idle = total_demand([demand(1, 0.0, owd_p95_ms=None)])
    assert idle is not None
    assert idle.loss_ratio == 0.0
    assert idle.owd_p95_ms is None
