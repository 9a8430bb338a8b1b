"""slice-planner's forecasters: histories in, quantiles out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from holon_xapp import load_model

from xapps.slice_planner.forecasters import (
    Forecaster,
    OnnxForecaster,
    PersistenceForecaster,
    SmoothingForecaster,
    forecaster,
)

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "demand_forecast"


def onnx() -> Forecaster:
    return OnnxForecaster(load_model(MODEL_FOLDER))


ALL = {"onnx": onnx, "smoothing": SmoothingForecaster, "persistence": PersistenceForecaster}


@pytest.mark.parametrize("name", ALL)
def test_quantiles_rise_and_are_never_negative(name: str) -> None:
    forecast = ALL[name]()
    random = np.random.default_rng(2)
    history = random.uniform(0, 9000, (4, forecast.steps, 2))
    history[3] = 0.0
    history[2, :-5] = history[2, 0]  # a short history, padded
    got = forecast(history, 20_000.0)
    assert got.shape == (4, 3)
    assert (got >= 0).all()
    assert (np.diff(got, axis=1) >= -1e-9).all()


@pytest.mark.parametrize("name", ALL)
def test_steady_demand_is_forecast_to_stay(name: str) -> None:
    forecast = ALL[name]()
    history = np.tile([4000.0, 2.0], (1, forecast.steps, 1))
    median_kbps = forecast(history, 20_000.0)[0, 0]
    assert median_kbps == pytest.approx(4000.0, rel=0.15)


@pytest.mark.parametrize("name", ["onnx", "smoothing"])
def test_a_ramp_is_anticipated(name: str) -> None:
    """1 Mbit/s steady, then 0.75 Mbit/s more per sample for 2 s: 3 Mbit/s more are to come."""
    forecast = ALL[name]()
    ramp = np.concatenate([np.full(forecast.steps - 4, 1000.0), 1000.0 + 750.0 * np.arange(1, 5)])
    history = np.stack([ramp, np.full(forecast.steps, 2.0)], axis=1)[None]
    assert forecast(history, 20_000.0)[0, 2] > 1.3 * ramp[-1]


def test_smoothing_learns_its_margin_from_its_own_errors() -> None:
    forecast = SmoothingForecaster()
    random = np.random.default_rng(3)
    demand = np.stack([np.full(120, 3000.0), random.uniform(1000.0, 5000.0, 120)])
    demand[0, 0] = 2999.0  # a change, so that nothing of it counts as padding
    history = np.stack([demand, np.ones((2, 120))], axis=2)
    spread = forecast(history, 20_000.0)
    assert spread[0, 2] - spread[0, 0] < 50.0
    assert spread[1, 2] - spread[1, 0] > 1000.0


def test_forecasters_by_name() -> None:
    def broken() -> None:
        raise AssertionError("only onnx needs the model")

    assert isinstance(forecaster("exponential_smoothing", broken), SmoothingForecaster)  # type: ignore[arg-type]
    assert isinstance(forecaster("persistence", broken), PersistenceForecaster)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown forecaster 'lstm'; known: onnx"):
        forecaster("lstm", broken)  # type: ignore[arg-type]
