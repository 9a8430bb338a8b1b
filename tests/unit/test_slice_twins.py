"""Twin models of slices: how they resolve, what is refused, what aggregates make of them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts.slice_twins import (
    SliceTwinSettings,
    all_due,
    check_of_slices,
    resolve_slice,
)
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.contracts.twin_models import Changes, Override, TwinModelError, load_models
from controller.twins.held_demands import HeldDemands
from tests.unit.test_centre import NOW_NS, WINDOW, centre, slice_demand

MODEL = load_models()["slice"]
VIDEO = "1-000001"
PERIOD_NS = 500_000_000


def override(changes: dict[str, Any], **scope: str) -> Override:
    return Override.model_validate({**scope, "changes": changes})


def settings(*overrides: Override, s_nssai: str = VIDEO) -> SliceTwinSettings:
    return resolve_slice(MODEL, s_nssai, overrides, 500, 600)


def test_one_slices_word_goes_over_that_for_all_slices() -> None:
    for_all = override({"period_ms": 1000, "history_length": 9}, type="slice")
    own = override({"period_ms": 2000}, slice_twin=VIDEO)
    assert settings().every == 1
    assert (settings(own, for_all).every, settings(own, for_all).history_length) == (4, 9)
    assert settings(own, for_all, s_nssai="2-000002").every == 2
    # Of its users' twins, not of its own.
    assert settings(override({"period_ms": 2000}, s_nssai=VIDEO)) == settings()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"period_ms": 700}, "no multiple"),
        ({"period_ms": 250}, "no multiple"),
        ({"upload": "poll"}, "push aggregates"),
        ({"batch_reports": 2}, "one window"),
        ({"attribute_period_ms": {"users": 1000}}, "come together"),
        ({"precision": {"min_kbps": 10}}, "not rounded"),
        ({"predicted": {"users": True}}, "nobody forecasts"),
        ({"represented_by": "ue1"}, "users represent users"),
    ],
)
def test_what_a_slices_twin_does_not_have_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TwinModelError, match=words):
        check_of_slices(Changes.model_validate(changes), 500)


def test_an_entry_is_in_each_nth_aggregate_and_rounded() -> None:
    coarse = settings(
        override({"period_ms": 1000, "precision": {"demand_kbps": 100}}, slice_twin=VIDEO)
    )
    demand = SliceDemand(**slice_demand(1, 4321.0))
    other = SliceDemand(**slice_demand(2, 77.7))
    (rounded, kept) = all_due([demand, other], {1: coarse}, window=8)
    assert (rounded.demand_kbps, kept) == (4300.0, other)
    assert all_due([demand, other], {1: coarse}, window=9) == [other]


def aggregate(window: int, *slices: dict[str, Any]) -> CellAggregate:
    completed_at_ns = NOW_NS + (window - WINDOW) * PERIOD_NS
    return CellAggregate(
        trace_id=f"t{window}",
        edge="edge1",
        cell_id="ap1",
        window=window,
        period_ms=500,
        completed_at_ns=completed_at_ns,
        sent_at_ns=completed_at_ns + 1,
        users_reported=2,
        users_expected=2,
        slices=[SliceDemand.model_validate(s) for s in slices],
    )


def test_the_last_word_stands_until_it_is_three_periods_old() -> None:
    held = HeldDemands(fresh_periods=3)
    held.keep(aggregate(WINDOW, slice_demand(1, 4000.0)), {1: 2})
    assert [d.slice_id for d in held.completed(aggregate(WINDOW + 6)).slices] == [1]
    assert held.completed(aggregate(WINDOW + 7)).slices == []
    held.forget([1])
    assert held.completed(aggregate(WINDOW + 1)).slices == []


def test_the_centre_holds_what_is_not_due_and_its_twin_is_as_old_as_that() -> None:
    slow = override({"period_ms": 1000, "history_length": 2}, slice_twin=VIDEO)
    known = centre(overrides=[slow])
    events: list[dict[str, Any]] = []
    known.stream.listeners.append(events.append)
    for step in range(6):
        due = [slice_demand(1, 4000.0 + step)] if step % 2 == 0 else []
        sent = aggregate(WINDOW + step, *due, slice_demand(2, 10.0))
        known.accept(sent, sent.completed_at_ns + 1)
    cells = [e for e in events if e["kind"] == "cell"]
    shown = [next(s["demand_kbps"] for s in e["slices"] if s["slice_id"] == 1) for e in cells]
    assert shown == [4000.0, 4000.0, 4002.0, 4002.0, 4004.0, 4004.0]
    assert [e["window"] for e in events if e.get("id") == VIDEO] == [WINDOW, WINDOW + 2, WINDOW + 4]
    attribute = known.level_two.slices[VIDEO].attributes["demand_kbps"]
    assert (attribute.value, attribute.period_ms) == (4004.0, 1000)
    assert len(known.history.last("slice", VIDEO, "demand_kbps", 10)) == 2
    assert len(known.history.last("slice", "2-000002", "demand_kbps", 10)) == 6


def test_without_prediction_in_the_model_there_is_none_in_the_twin() -> None:
    overrides: list[Override] = []
    known = centre(overrides=overrides)
    known.accept(aggregate(WINDOW, slice_demand(1, 4000.0)), NOW_NS)
    known.predict("ap1", 1, 5000.0, "x", NOW_NS)
    name = "demand_kbps.ap1"
    assert known.level_two.slices[VIDEO].attributes[name].predicted is not None
    overrides.append(override({"predicted": {"demand_kbps": False}}, type="slice"))
    known.models_changed()
    known.predict("ap1", 1, 5000.0, "x", NOW_NS)
    assert known.level_two.slices[VIDEO].attributes[name].predicted is None
    assert known.level_two.cells["ap1"].attributes[f"demand_kbps.{VIDEO}"].predicted is None
