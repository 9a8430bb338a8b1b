"""Questions to a history: spans, steps, aggregates; and what reports answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controller.local.history import series_of, user_rows
from controller.twins.level_one import merge_report
from controller.twins.report_values import attributes_in, samples_of, value_in
from controller.twins.series import (
    AGGREGATES,
    Query,
    Sample,
    SeriesError,
    answer,
    duration_ns,
    moment_ns,
)
from tests.ric_inventory import ric_inventory
from tests.sample_reports import PERIOD_NS, T0_NS, sample_flow, sample_report

SECOND_NS = 1_000_000_000
RAMP = [Sample(i, i * SECOND_NS // 2, float(i)) for i in range(10)]
"""0 at 0 s, 1 at 0.5 s, ... 9 at 4.5 s."""


def values(**asked: Any) -> list[Any]:
    return [point["value"] for point in answer(RAMP, Query("x", **asked))]


def test_a_span_includes_its_beginning_and_not_its_end() -> None:
    assert values(since_ns=SECOND_NS, until_ns=2 * SECOND_NS) == [2, 3]
    assert values(last=3) == [7, 8, 9]
    assert values(since_ns=99 * SECOND_NS) == []


def test_steps_begin_at_whole_multiples_and_say_how_many_they_hold() -> None:
    points = answer(RAMP, Query("x", since_ns=SECOND_NS // 2, aggregate="mean", every_ns=SECOND_NS))
    assert [p["measured_at"] for p in points] == [i * SECOND_NS for i in range(5)]
    assert [p["value"] for p in points] == [1.0, 2.5, 4.5, 6.5, 8.5]
    assert [p["samples"] for p in points] == [1, 2, 2, 2, 2]
    assert values(aggregate="sum") == [45.0]


@pytest.mark.parametrize("name", [a for a in AGGREGATES if a.startswith("p")])
def test_percentiles_are_numpys(name: str) -> None:
    draw = np.random.default_rng(3).lognormal(1.0, 1.0, 37)
    samples = [Sample(i, i, float(v)) for i, v in enumerate(draw)]
    (point,) = answer(samples, Query("x", aggregate=name))
    assert point["value"] == pytest.approx(np.percentile(draw, float(name[1:])))


def test_what_was_not_measured_is_in_no_aggregate() -> None:
    holes = [Sample(0, 0, None), Sample(1, 1, 4.0), Sample(2, 2, None)]
    (point,) = answer(holes, Query("x", aggregate="mean"))
    assert (point["value"], point["samples"]) == (4.0, 1)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: Query("x", aggregate="median"), "known: mean"),
        (lambda: Query("x", every_ns=1), "needs an aggregate"),
        (lambda: duration_ns("10"), "10s"),
        (lambda: duration_ns("0s"), "no duration"),
        (lambda: answer([Sample(0, 0, [1, 2])], Query("place", aggregate="mean")), "no number"),
    ],
)
def test_questions_without_an_answer_say_what_would_be_right(ask: Any, words: str) -> None:
    with pytest.raises(SeriesError, match=words):
        ask()


def test_moments_are_ago_or_absolute() -> None:
    assert moment_ns("250ms", SECOND_NS) == 750_000_000
    assert moment_ns("123", SECOND_NS) == 123
    assert duration_ns("2m") == 120 * SECOND_NS


def report(**changes: Any) -> dict[str, Any]:
    return sample_report(**changes).model_dump(mode="json")


def test_a_reports_values_are_named_as_in_the_twin() -> None:
    flows = [sample_flow(), sample_flow(demand_kbps=500.0, loss_ratio=0.4), sample_flow(up=True)]
    document = report(flows=flows, heading_deg=90.0)
    assert value_in(document, "services.stream.down.demand_kbps") == 1500
    assert value_in(document, "services.stream.down.loss_ratio") == pytest.approx(0.2)
    assert value_in(document, "services.stream.up.demand_kbps") == 1000
    assert value_in(document, "connectivity.rsrp_dbm.ap1") == -80
    assert value_in(document, "user.location_m.y") == 2
    assert value_in(document, "user.location_m") == [1, 2]
    assert value_in(document, "use_case.heading_deg") == 90
    assert 1 <= value_in(document, "services.stream.down.mos") <= 4.5
    for missing in ("services.other.down.demand_kbps", "connectivity.snr_db", "nothing.at_all"):
        assert value_in(document, missing) is None
    known = attributes_in(document)
    assert {"user.qoe_mos", "services.stream.up.goodput_kbps", "user.location_m.x"} <= set(known)
    assert all(samples_of([document], name) for name in known)


def test_an_edge_answers_from_its_twins_history() -> None:
    twin = None
    for window in range(4000, 4004):
        one = sample_report(window, flows=[sample_flow(demand_kbps=float(window))])
        twin = merge_report(twin, one, one.measured_at_ns, 100)
    assert twin is not None
    since_ns = T0_NS + 2 * PERIOD_NS
    found = series_of(twin, Query("services.stream.down.demand_kbps", since_ns=since_ns))
    assert [point["value"] for point in found["points"]] == [4001, 4002, 4003]
    unknown = series_of(twin, Query("services.strem.down.demand_kbps"))
    assert not unknown["recorded"]
    assert "services.stream.down.demand_kbps" in unknown["known"]
    rows = user_rows(twin, ric_inventory(), since_ns)
    assert [row["demand_kbps"] for row in rows] == [4001, 4002, 4003]
    assert {(row["sst"], row["sd"], row["cell_id"]) for row in rows} == {(1, "000001", "ap1")}
    assert rows[0]["rsrp_dbm"] == -80
