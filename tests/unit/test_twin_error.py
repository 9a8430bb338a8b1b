"""How wrong twins were: held values against the emulation's truth."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sample_evidence import HANDOVER_S, sample_evidence, sample_measurements, user_row
from topologies.mobility import position_m
from topologies.results.twin_error import figures, traffic_errors, twin_errors

OFFSET_M = 3.0


def errors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return twin_errors(sample_evidence(user_rows=rows))


def rows_every_half_second(**changes: Any) -> list[dict[str, Any]]:
    """Of ue1, measured at the truth of its place plus 3 m to the east."""
    evidence = sample_evidence()
    user = next(u for u in evidence.scenario.users if u.name == "ue1")
    found = []
    for i in range(88):
        at_s = 2.0 + i / 2
        x_m, y_m = position_m(user.mobility, evidence.scenario.seed, "ue1", at_s)
        found.append(user_row("ue1", at_s, x_m=x_m + OFFSET_M, y_m=y_m, **changes))
    return found


def test_an_offset_of_the_place_is_the_error_of_it() -> None:
    found = errors(rows_every_half_second())
    location = found["location_m"]
    assert location["samples"] == 400  # ten looks in each of 40 s
    assert location["mean"] == OFFSET_M  # ue1 stands
    assert found["age_ms"]["max"] < 500
    assert found["serving_cell_wrong"]["mean"] == 0


def test_what_a_report_left_out_is_held_from_the_one_before() -> None:
    rows = rows_every_half_second()
    thinned = [row if i % 20 == 0 else {**row, "x_m": None} for i, row in enumerate(rows)]
    assert errors(thinned)["location_m"]["samples"] == 400
    assert errors([{**row, "rsrp_dbm": None} for row in rows]).get("rsrp_dbm") is None


def test_a_twin_that_missed_a_handover_names_the_wrong_cell() -> None:
    rows = [
        user_row("ue2", 2.0 + i / 2, version=i, cell_id="ap1") for i in range(88)
    ]  # ue2 is handed over to ap2 at 12 s and back at 33 s
    wrong = errors(rows)["serving_cell_wrong"]
    assert wrong["mean"] == pytest.approx((33.0 - HANDOVER_S) / 40, abs=0.01)


def test_demand_and_loss_are_compared_with_what_was_sent() -> None:
    measured = sample_measurements()
    ids = [f.flow_id for f in measured.flows if f.ue_id == "ue1" and f.direction == "down"]
    video = [i for i in ids if measured.flows[i].slice_id == 1]
    sent_kbps = float(measured.sent_bytes[video, 0].sum()) * 8 / 1000
    at_s = measured.first_window + 0.75
    row = user_row("ue1", at_s, demand_kbps=sent_kbps + 10, loss_ratio=0.1)
    found = traffic_errors([row], measured)
    assert found["demand_kbps"] == [pytest.approx(10)]
    assert found["loss_ratio"] == [pytest.approx(0.1)]


def test_a_run_without_reports_has_no_errors() -> None:
    assert errors([]) == {}
    assert figures([])["samples"] == 0
