"""Forecasts in user twins (VL3): tracks on an even grid, batches to models, scores of what came."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from controller.contracts.twin_messages import FlowReport, UserReport
from controller.local import prediction
from controller.local.onnx_model import MODELS_FOLDER, load_model
from controller.local.pending import WAITING_PER_USER, Forecast
from controller.local.prediction import DEMAND, MOBILITY, Predictor
from controller.local.scoring import Scores
from controller.local.tracks import Track
from controller.twins.level_one import merge_predictions, merge_report, twin_document
from tests.sample_reports import sample_report

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS


def driving(step: int, demand_kbps: float = 1000.0, ue_id: str = "ue1") -> UserReport:
    """Eastwards at 10 m/s, one report each half second."""
    flow = FlowReport(
        service="video", slice_id=1, up=False, demand_kbps=demand_kbps,
        goodput_kbps=demand_kbps, loss_ratio=0.0,
    )  # fmt: skip
    return sample_report(
        ue_id=ue_id,
        sequence=step + 1,
        measured_at_ns=START_NS + step * SECOND_NS // 2,
        position_m=(5.0 * step, 0.0),
        flows=[flow],
    )


@pytest.fixture(scope="module")
def models() -> Predictor:
    return Predictor(load_model(MOBILITY), load_model(DEMAND))


def fresh() -> Predictor:
    return Predictor(load_model(MOBILITY), load_model(DEMAND))


def test_track_is_interpolated_and_starts_where_the_user_was_first_seen() -> None:
    track = Track()
    for step in (0, 2):  # a report was lost
        track.add(driving(step))
    assert track.positions_m(0.5, 4).tolist() == [[0, 0], [0, 0], [5, 0], [10, 0]]


def test_demand_is_held_not_interpolated() -> None:
    track = Track()
    for step, kbps in ((0, 100.0), (2, 300.0)):
        track.add(driving(step, kbps))
    assert track.demands_kbps(["video"], 0.5, 4).tolist() == [[100, 100, 100, 300]]


def test_track_forgets_what_no_model_reads() -> None:
    track = Track()
    for step in range(200):
        track.add(driving(step))
    assert 20 <= len(track) <= 30


def test_a_straight_drive_is_forecast_far_better_than_standing_still() -> None:
    predictor = fresh()
    for step in range(60):
        predictor.observe(driving(step))
        dict(predictor.predict({"ue1": 10_000.0}, START_NS + step * SECOND_NS // 2))
    report = predictor.report()
    assert report["location_samples"] > 40
    assert report["location_naive_error_m"] == pytest.approx(20.0, abs=0.5)
    assert report["location_error_m"] < 0.15 * report["location_naive_error_m"]


def test_forecasts_land_in_the_twin_with_horizon_and_quantiles() -> None:
    predictor = fresh()
    twin = None
    for step in range(30):
        report = driving(step)
        twin = merge_report(twin, report, report.measured_at_ns, 60)
        predictor.observe(report)
    assert twin is not None
    predicted = dict(predictor.predict({"ue1": 10_000.0}, START_NS))["ue1"]
    document = twin_document(merge_predictions(twin, predicted), START_NS)
    location = document["user"]["location_m"]["predicted"]
    assert location["source"].startswith("mobility_forecast ")
    assert [h["horizon_ms"] for h in location["horizons"]] == [1000, 2000, 5000, 10_000]
    assert location["horizons"][1]["value"][0] == pytest.approx(145 + 20, abs=3)
    for horizon in location["horizons"]:
        assert 0 <= horizon["radius_m"]["0.5"] <= horizon["radius_m"]["0.9"]
    demand = document["services"]["video"]["down"]["demand_kbps"]["predicted"]["horizons"][0]
    assert demand["quantiles"]["0.5"] == demand["value"] == pytest.approx(1000, rel=0.1)
    assert demand["quantiles"]["0.5"] <= demand["quantiles"]["0.9"] <= demand["quantiles"]["0.97"]


def test_only_who_reported_since_is_forecast_again() -> None:
    predictor = fresh()
    predictor.observe(driving(0))
    assert set(dict(predictor.predict({"ue1": 1e4, "ue2": 1e4}, START_NS))) == {"ue1"}
    assert dict(predictor.predict({"ue1": 1e4, "ue2": 1e4}, START_NS)) == {}


def test_forgotten_user_is_not_forecast() -> None:
    predictor = fresh()
    predictor.observe(driving(0))
    predictor.forget("ue1")
    assert dict(predictor.predict({"ue1": 1e4}, START_NS)) == {}


def test_adopted_history_makes_the_first_forecast_as_good_as_any(models: Predictor) -> None:
    reports = [driving(step, ue_id="moved") for step in range(20)]
    models.adopt(reports[:-1])
    models.observe(reports[-1])
    predicted = dict(models.predict({"moved": 1e4}, START_NS))["moved"]
    place = predicted["user.location_m"].horizons[0]
    assert place["value"][0] == pytest.approx(95 + 10, abs=2)


def judged(track: Track, scores: Scores, report: UserReport) -> None:
    """As the predictor does it with every report."""
    if track.pending.is_due(report.measured_at_ns, report.period_ms * 1_000_000):
        scores.judge(track, report)
    track.add(report)


def forecast(step: int, place_m: tuple[float, float] = (0.0, 0.0), **demand: Any) -> Forecast:
    """Made of `driving(step)`; demands as (persistence's, median)."""
    made_at_ns = START_NS + step * SECOND_NS // 2
    return Forecast(made_at_ns, (5.0 * step, 0.0), place_m, demand)


def test_demand_is_scored_by_the_maximum_of_the_horizon() -> None:
    scores, track = Scores(), Track()
    judged(track, scores, driving(0, 900.0))
    track.pending.add(forecast(0, video=(100.0, 250.0)))
    for step, kbps in ((1, 120.0), (2, 300.0), (3, 80.0)):
        judged(track, scores, driving(step, kbps))
        assert scores.of_demand.samples == 0
    judged(track, scores, driving(4, 90.0))
    assert (scores.of_demand.error, scores.of_demand.naive_error) == (50.0, 200.0)
    judged(track, scores, driving(5, 500.0))
    assert (scores.of_demand.samples, scores.of_place.samples) == (1, 1)


def test_a_place_is_scored_where_the_user_was_between_two_reports() -> None:
    scores, track = Scores(), Track()
    judged(track, scores, driving(0))
    track.pending.add(forecast(0, (22.0, 0.0)))
    for step in (3, 5):  # none at the forecast's moment: the user was at 20 m then
        judged(track, scores, driving(step))
    assert (scores.of_place.error, scores.of_place.naive_error) == (2.0, 20.0)


def test_each_service_is_scored_while_services_come_and_go() -> None:
    scores, track = Scores(), Track()
    made = [{"video": (1000.0, 990.0)}, {"video": (1000.0, 980.0), "maps": (5.0, 7.0)}, {}]
    for step in range(8):
        judged(track, scores, driving(step, 1000.0))
        if step < len(made):
            track.pending.add(forecast(step, **made[step]))
    assert scores.of_demand.samples == 3
    assert scores.of_demand.error == 10.0 + 20.0 + 7.0  # nobody asked for maps
    assert scores.of_demand.naive_error == 5.0
    assert len(track.pending) == 0


def test_forecasts_that_wait_are_bounded() -> None:
    track = Track()
    for step in range(2 * WAITING_PER_USER):
        track.pending.add(forecast(step, video=(1.0, 2.0)))
    assert len(track.pending) == WAITING_PER_USER


def test_a_service_nobody_asks_for_any_more_leaves_a_track() -> None:
    track = Track()
    for step in range(3):
        track.add(driving(step, 300.0).model_copy(update={"flows": []} if step else {}))
    assert track.services == ()
    assert track.demands_kbps(["video"], 0.5, 3).tolist() == [[300, 0, 0]]
    for step in range(3, 80):
        track.add(driving(step).model_copy(update={"flows": []}))
    with pytest.raises(ValueError, match="not in tuple"):
        track.demands_kbps(["video"], 0.5, 3)


def test_constants_are_those_of_the_models_contracts() -> None:
    mobility = json.loads((MODELS_FOLDER / MOBILITY / "model.json").read_bytes())
    demand = json.loads((MODELS_FOLDER / DEMAND / "model.json").read_bytes())
    for contract, steps in ((mobility, prediction.POSITIONS), (demand, prediction.DEMANDS)):
        assert contract["inputs"][0]["sample_period_ms"] == 1000 * prediction.STEP_S
        assert contract["inputs"][0]["shape"][1] == steps
    assert mobility["inputs"][0]["slots"][0]["scaling"]["divide_by"] == prediction.POSITION_SCALE_M
    assert tuple(mobility["outputs"][0]["horizons_ms"]) == prediction.MOBILITY_HORIZONS_MS
    assert tuple(mobility["outputs"][1]["quantiles"]) == prediction.RADIUS_QUANTILES
    assert demand["inputs"][0]["slots"][1]["scaling"]["divide_by"] == prediction.USERS_SCALE
    assert demand["outputs"][0]["horizon_ms"] == prediction.DEMAND_HORIZON_MS
    assert tuple(demand["outputs"][0]["quantiles"]) == prediction.DEMAND_QUANTILES


def test_a_changed_model_file_is_refused(tmp_path: object) -> None:
    from pathlib import Path
    from shutil import copytree

    folder = Path(str(tmp_path))
    copytree(MODELS_FOLDER / MOBILITY, folder / MOBILITY)
    path = folder / MOBILITY / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="its contract states"):
        load_model(MOBILITY, folder)


def test_standing_user_is_forecast_where_it_is() -> None:
    model = load_model(MOBILITY)
    displacement, radius = model(positions=np.zeros((1, 13, 2), dtype=np.float32))
    assert np.abs(displacement).max() < 0.01
    assert np.isfinite(radius).all()
