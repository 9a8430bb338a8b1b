"""Forecasts in user twins (VL3): tracks on an even grid, batches to models, scores of what came."""

from __future__ import annotations

import json

import numpy as np
import pytest

from controller.contracts.twin_messages import FlowReport, UserReport
from controller.local import prediction
from controller.local.onnx_model import MODELS_FOLDER, load_model
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


def test_demand_is_scored_by_the_maximum_of_the_horizon() -> None:
    scores = Scores()
    scores.observe(driving(0, 100.0))
    scores.demand("ue1", "video", 100.0, 250.0, START_NS)
    for step, kbps in ((1, 120.0), (2, 300.0), (3, 80.0)):
        scores.observe(driving(step, kbps))
        assert scores.of_demand.samples == 0
    scores.observe(driving(4, 90.0))
    assert (scores.of_demand.error, scores.of_demand.naive_error) == (50.0, 200.0)


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
