"""What the model has to beat, with the same inputs: point forecasts plus residual quantiles.

Each baseline forecasts a point, in shares of the capacity, from histories
[n, 20, 2]; its quantiles are that point plus quantiles of its relative errors on
the training windows.  Smoothing constants are chosen on training windows too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from models.demand_forecast.dataset import FloatArray, Windows
from models.demand_forecast.shape import HORIZON_STEPS, QUANTILES, SCALE_FLOOR

Histories = npt.NDArray[np.floating]
PointForecast = Callable[[Histories], FloatArray]


def persistence(history: Histories) -> FloatArray:
    """The last sample."""
    return np.asarray(history[:, -1, 0], dtype=np.float64)


def seasonal_naive(history: Histories) -> FloatArray:
    """What came 10 s (the whole history) ago, for as long as the horizon."""
    return np.asarray(history[:, :HORIZON_STEPS, 0].max(axis=1), dtype=np.float64)


def exponential_smoothing(level_ratio: float, trend_ratio: float) -> PointForecast:
    """Holt's linear smoothing; the maximum over the horizon is at one of its ends."""

    def forecast(history: Histories) -> FloatArray:
        demand = np.asarray(history[:, :, 0], dtype=np.float64)
        level, trend = demand[:, 0].copy(), np.zeros(len(demand))
        for step in range(1, demand.shape[1]):
            before = level
            level = level_ratio * demand[:, step] + (1 - level_ratio) * (level + trend)
            trend = trend_ratio * (level - before) + (1 - trend_ratio) * trend
        return np.maximum(np.maximum(level + trend, level + HORIZON_STEPS * trend), 0.0)

    return forecast


@dataclass(frozen=True)
class Baseline:
    """`margins` are the residual quantiles, in units of each history's scale."""

    name: str
    point: PointForecast
    margins: FloatArray

    def quantiles(self, history: Histories) -> FloatArray:
        """[n, 3] in shares of the capacity, never negative."""
        shifted = self.point(history)[:, None] + self.margins * scales(history)[:, None]
        return np.maximum(shifted, 0.0)


def scales(history: Histories) -> FloatArray:
    """As the network's: each history's maximum demand."""
    return np.asarray(history[:, :, 0].max(axis=1), dtype=np.float64) + SCALE_FLOOR


def pinball(quantiles: FloatArray, windows: Windows) -> float:
    """Mean pinball loss over quantiles and windows, in shares of the capacity."""
    error = windows.target[:, None] - quantiles
    levels = np.array(QUANTILES)
    return float(np.maximum(levels * error, (levels - 1) * error).mean())


def fitted(name: str, point: PointForecast, training: Windows) -> Baseline:
    """The baseline with margins from its own errors in training."""
    residual = (training.target - point(training.history)) / scales(training.history)
    return Baseline(name, point, np.quantile(residual, QUANTILES))


def baselines(training: Windows) -> list[Baseline]:
    """All of them, fitted; smoothing with the constants of least pinball loss."""
    smoothings = [
        fitted("exponential smoothing", exponential_smoothing(level, trend), training)
        for level, trend in product((0.3, 0.5, 0.7, 0.9), (0.1, 0.3, 0.5, 0.7))
    ]
    best = min(smoothings, key=lambda b: pinball(b.quantiles(training.history), training))
    return [
        fitted("persistence", persistence, training),
        fitted("seasonal naive", seasonal_naive, training),
        best,
    ]
