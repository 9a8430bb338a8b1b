"""Rows for training: features of (user, cell) at a moment, and what then became of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.mobility_forecast.dataset import FloatArray, reported
from models.mobility_forecast.evaluate import FOLDER as MOBILITY
from models.mobility_forecast.evaluate import Forecast, onnx_forecast
from models.mobility_forecast.shape import HISTORY_STEPS, POSITION_SCALE_M
from models.residence_forecast.features import IntArray, Seen, features
from models.residence_forecast.shape import (
    SAMPLE_PERIOD_S,
    STAY_HORIZON_S,
    UNTIL_HORIZON_S,
)
from models.residence_forecast.worlds import Drive, drives

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Residences:
    """`features` [n, 17]; `until_s`, `stay_s` [n], the stay NaN where none begins in time."""

    features: Float32Array
    until_s: FloatArray
    stay_s: FloatArray

    @classmethod
    def joined(cls, parts: Iterable[Residences]) -> Residences:
        found = list(parts)
        return cls(
            np.concatenate([p.features for p in found]),
            np.concatenate([p.until_s for p in found]),
            np.concatenate([p.stay_s for p in found]),
        )


def residences(seed: int, count: int, mobility: Path = MOBILITY) -> Residences:
    """Of so many drives; seeds of training and evaluation differ."""
    random = np.random.default_rng([seed, 31])
    forecast = onnx_forecast(mobility / "model.onnx")
    return Residences.joined(_rows(random, d, forecast) for d in drives(random, count))


def seen_of(way: Drive, told_m: FloatArray, forecast: Forecast) -> Seen:
    """What the twins show of a drive: positions as reported, places as forecast from them."""
    padded = np.concatenate([np.repeat(told_m[:1], HISTORY_STEPS - 1, axis=0), told_m])
    history = np.lib.stride_tricks.sliding_window_view(padded, HISTORY_STEPS, axis=0)
    history = history.transpose(0, 2, 1) - told_m[:, None, :]
    displacement, radius = forecast((history / POSITION_SCALE_M).astype(np.float32))
    step_m = np.linalg.norm(np.diff(told_m, axis=0, prepend=told_m[:1]), axis=1)
    return Seen(
        way.cells_m,
        way.rsrp_dbm,
        way.serving,
        told_m,
        step_m / SAMPLE_PERIOD_S,
        told_m[:, None, :] + POSITION_SCALE_M * displacement,
        POSITION_SCALE_M * radius[:, :, -1],
    )


def _rows(random: np.random.Generator, way: Drive, forecast: Forecast) -> Residences:
    table = features(seen_of(way, reported(random, way.track_m), forecast))
    until_s, stay_s, known = outcomes(way.serving, len(way.cells_m))
    # Early rows know no history of stays, like a twin that is young; most rows do.
    return Residences(table[known].astype(np.float32), until_s[known], stay_s[known])


def outcomes(serving: IntArray, cells: int) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """[t, cell]: time until the cell serves, how long it then does, whether that is known.

    The drive's end hides what would have come: such rows are not known.
    """
    steps = len(serving)
    until_s = np.full((steps, cells), UNTIL_HORIZON_S)
    stay_s = np.full((steps, cells), np.nan)
    known = np.zeros((steps, cells), dtype=bool)
    reach = round(UNTIL_HORIZON_S / SAMPLE_PERIOD_S)
    longest = round(STAY_HORIZON_S / SAMPLE_PERIOD_S)
    for cell in range(cells):
        entry, leave = steps, steps
        for at in range(steps - 1, -1, -1):
            if serving[at] == cell:
                leave = at + 1 if at + 1 == steps or serving[at + 1] != cell else leave
                entry = at
            if entry < steps and entry - at < reach:
                until_s[at, cell] = (entry - at) * SAMPLE_PERIOD_S
                stay_s[at, cell] = min(STAY_HORIZON_S, (leave - entry) * SAMPLE_PERIOD_S)
                known[at, cell] = leave < steps or leave - entry >= longest
            else:
                known[at, cell] = at + reach < steps
    return until_s, stay_s, known
