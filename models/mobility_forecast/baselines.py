"""What the model has to beat with the same histories: standing still, going on, smoothed going on.

Each is a point forecast; its radii are quantiles of its own relative errors in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mobility_forecast.dataset import FloatArray, Ways
from models.mobility_forecast.shape import (
    HORIZONS_S,
    RADIUS_QUANTILES,
    SAMPLE_PERIOD_S,
    SPEED_FLOOR,
)

Positions = npt.NDArray[np.floating]
PointForecast = Callable[[Positions], FloatArray]
_AHEAD = np.array(HORIZONS_S) / SAMPLE_PERIOD_S


def persistence(positions: Positions) -> FloatArray:
    """The user stays where it is. [n, 4, 2]."""
    return np.zeros((len(positions), len(HORIZONS_S), 2))


def constant_velocity(positions: Positions) -> FloatArray:
    """The last second's way goes on."""
    velocity = np.asarray(positions[:, -1] - positions[:, -3], dtype=np.float64) / 2
    return velocity[:, None, :] * _AHEAD[None, :, None]


def seasonal_naive(positions: Positions) -> FloatArray:
    """The way of the last h seconds comes again (of the last six, where h is longer)."""
    found = []
    for ahead in _AHEAD:
        back = min(int(ahead), positions.shape[1] - 1)
        way = np.asarray(positions[:, -1] - positions[:, -1 - back], dtype=np.float64)
        found.append(way * ahead / back)
    return np.stack(found, axis=1)


def exponential_smoothing(level_ratio: float) -> PointForecast:
    """A smoothed velocity goes on."""

    def forecast(positions: Positions) -> FloatArray:
        steps = np.diff(np.asarray(positions, dtype=np.float64), axis=1)
        velocity = steps[:, 0]
        for step in range(1, steps.shape[1]):
            velocity = level_ratio * steps[:, step] + (1 - level_ratio) * velocity
        return velocity[:, None, :] * _AHEAD[None, :, None]

    return forecast


@dataclass(frozen=True)
class Baseline:
    """`margins` [4, 2]: radius quantiles per horizon, in units of each history's pace."""

    name: str
    point: PointForecast
    margins: FloatArray

    def forecast(self, positions: Positions) -> tuple[FloatArray, FloatArray]:
        radius = self.margins[None] * paces(positions)[:, None, None]
        return self.point(positions), radius


def paces(positions: Positions) -> FloatArray:
    """[n]: mean movement per sample, as the network's."""
    steps = np.diff(np.asarray(positions, dtype=np.float64), axis=1)
    return np.asarray(np.linalg.norm(steps, axis=2).mean(axis=1) + SPEED_FLOOR)


def distances(displacement: FloatArray, ways: Ways) -> FloatArray:
    """[n, 4]: between forecast and truth, scaled."""
    return np.asarray(np.linalg.norm(ways.target - displacement, axis=2), dtype=np.float64)


def fitted(name: str, point: PointForecast, training: Ways) -> Baseline:
    relative = distances(point(training.positions), training) / paces(training.positions)[:, None]
    return Baseline(name, point, np.quantile(relative, RADIUS_QUANTILES, axis=0).T)


def baselines(training: Ways) -> list[Baseline]:
    """All of them, fitted; smoothing with the constant of least distance in training."""
    best = min(
        (0.2, 0.35, 0.5, 0.7),
        key=lambda r: distances(exponential_smoothing(r)(training.positions), training).mean(),
    )
    return [
        fitted("persistence", persistence, training),
        fitted("seasonal naive", seasonal_naive, training),
        fitted("constant velocity", constant_velocity, training),
        fitted("exponential smoothing", exponential_smoothing(best), training),
    ]
