"""Forecasters: histories in, quantiles of the maximum demand over the next two seconds out.

`onnx` runs the learned model; `exponential_smoothing` is the model-driven planner of
policy `model`, from the same samples; `persistence` assumes that nothing changes.
All are functions of the history alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from holon_xapp import Model, ModelError

FloatArray = npt.NDArray[np.float64]

QUANTILES = (0.5, 0.9, 0.97)
HORIZON_STEPS = 4
SAMPLE_PERIOD_MS = 500
USERS_SCALE = 10.0
LEAST_RESIDUALS = 12
PRIOR_RESIDUALS = (-0.05, 0.0, 0.0, 0.1, 0.3)
"""Relative errors assumed while a slice has too short a history to show its own."""


class Forecaster(Protocol):
    """`steps`: how much history it reads, one sample every `sample_period_ms`."""

    @property
    def steps(self) -> int: ...

    @property
    def sample_period_ms(self) -> int: ...

    def __call__(self, history: FloatArray, capacity_kbps: float) -> FloatArray:
        """[slice, step, 2] (kbit/s, users; oldest first) -> kbit/s [slice, quantile], rising."""
        ...


@dataclass(frozen=True)
class OnnxForecaster:
    """The model of models/demand_forecast; its contract says what goes in and comes out."""

    model: Model

    @property
    def steps(self) -> int:
        return self.model.history_steps

    @property
    def sample_period_ms(self) -> int:
        return self.model.sample_period_ms

    def __call__(self, history: FloatArray, capacity_kbps: float) -> FloatArray:
        scaled = (history / np.array([capacity_kbps, USERS_SCALE])).astype(np.float32)
        (quantiles,) = self.model(history=scaled)
        if not np.isfinite(quantiles).all():
            raise ModelError(f"{self.model.folder}: forecast is not finite")
        return np.asarray(quantiles, dtype=np.float64) * capacity_kbps


@dataclass(frozen=True)
class SmoothingForecaster:
    """Holt's linear smoothing plus quantiles of its own past errors in this history."""

    level_ratio: float = 0.7
    trend_ratio: float = 0.5
    steps: int = 120
    sample_period_ms: int = SAMPLE_PERIOD_MS

    def __call__(self, history: FloatArray, capacity_kbps: float) -> FloatArray:
        demand_kbps = history[:, :, 0]
        ahead_kbps = _holt_ahead(demand_kbps, self.level_ratio, self.trend_ratio)
        return with_residuals(demand_kbps, ahead_kbps)


@dataclass(frozen=True)
class PersistenceForecaster:
    """The last sample stays, plus quantiles of the errors that this made in this history."""

    steps: int = 120
    sample_period_ms: int = SAMPLE_PERIOD_MS

    def __call__(self, history: FloatArray, capacity_kbps: float) -> FloatArray:
        return with_residuals(history[:, :, 0], history[:, :, 0])


def _holt_ahead(demand_kbps: FloatArray, level_ratio: float, trend_ratio: float) -> FloatArray:
    """[slice, step]: at each step the greatest of the next four forecasts (the line's ends)."""
    # Plain floats: a few slices of a cell are too few for numpy to pay off step by step.
    return np.array([_holt_row(row, level_ratio, trend_ratio) for row in demand_kbps.tolist()])


def _holt_row(row_kbps: list[float], level_ratio: float, trend_ratio: float) -> list[float]:
    level, trend = row_kbps[0], 0.0
    ahead = []
    for sample_kbps in row_kbps:
        before = level
        level = level_ratio * sample_kbps + (1 - level_ratio) * (level + trend)
        trend = trend_ratio * (level - before) + (1 - trend_ratio) * trend
        ahead.append(max(level + trend, level + HORIZON_STEPS * trend, 0.0))
    return ahead


def with_residuals(demand_kbps: FloatArray, ahead_kbps: FloatArray) -> FloatArray:
    """The newest of `ahead_kbps` plus quantiles of what earlier ones missed, [slice, quantile].

    Steps before the first change of a slice are its padding and teach nothing.
    """
    came_kbps = np.lib.stride_tricks.sliding_window_view(
        demand_kbps[:, 1:], HORIZON_STEPS, axis=1
    ).max(axis=2)
    missed_kbps = came_kbps - ahead_kbps[:, : came_kbps.shape[1]]
    rows = [
        _quantiles_kbps(demand, missed, ahead)
        for demand, missed, ahead in zip(demand_kbps, missed_kbps, ahead_kbps[:, -1], strict=True)
    ]
    return np.array(rows)


def _quantiles_kbps(demand: FloatArray, missed: FloatArray, ahead: float) -> FloatArray:
    padding = int(np.argmax(demand != demand[0]))
    learned = missed[padding:] if padding else missed[:0]
    if len(learned) < LEAST_RESIDUALS:
        learned = np.concatenate([learned, ahead * np.array(PRIOR_RESIDUALS)])
    return np.maximum(ahead + np.quantile(learned, QUANTILES), 0.0)


FORECASTERS = ("onnx", "exponential_smoothing", "persistence")


def forecaster(name: str, load: Callable[[], Model]) -> Forecaster:
    """By its name in the config; `load` is called for `onnx` only.  Raises `ValueError`."""
    if name == "onnx":
        return OnnxForecaster(load())
    if name == "exponential_smoothing":
        return SmoothingForecaster()
    if name == "persistence":
        return PersistenceForecaster()
    raise ValueError(f"unknown forecaster {name!r}; known: {', '.join(FORECASTERS)}")
