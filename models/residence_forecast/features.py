"""What the network reads of a user and a cell, for all moments of a track at once. Pure numpy.

The xApp computes the same of one moment (`xapps/service_migration/features.py`); a test
compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.residence_forecast.shape import (
    FEATURES,
    MARGIN_SCALE_DB,
    RADIUS_SCALE_M,
    SAMPLE_PERIOD_S,
    SHORTEST_M,
    SLOPE_DB_PER_DECADE,
    SLOPE_SCALE_DB,
    SPEED_SCALE_MPS,
    STAY_MAX_S,
    STAY_SCALE_S,
    STAYS_REMEMBERED,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SLOPE_STEPS = 2


@dataclass(frozen=True)
class Seen:
    """One user's drive as its twin shows it, a row a report; cells in the order of `cells_m`.

    `places_m` [t, 4, 2] and `radius_m` [t, 4] (0.9 quantile): the twin's predicted places.
    """

    cells_m: FloatArray
    rsrp_dbm: FloatArray
    serving: IntArray
    position_m: FloatArray
    speed_mps: FloatArray
    places_m: FloatArray
    radius_m: FloatArray


def features(seen: Seen) -> FloatArray:
    """[t, cell, len(FEATURES)], scaled."""
    steps, cells = seen.rsrp_dbm.shape
    found = np.zeros((steps, cells, len(FEATURES)))
    margin = margins(seen.rsrp_dbm)
    earlier = margin[np.maximum(0, np.arange(steps) - SLOPE_STEPS)]
    found[:, :, 0] = margin / MARGIN_SCALE_DB
    found[:, :, 1] = (margin - earlier) / SLOPE_SCALE_DB
    here_db = gain_db(seen.cells_m, seen.position_m)
    for index in range(seen.places_m.shape[1]):
        change_db = gain_db(seen.cells_m, seen.places_m[:, index]) - here_db
        found[:, :, 2 + index] = margins(seen.rsrp_dbm + change_db) / MARGIN_SCALE_DB
        found[:, :, 6 + index] = seen.radius_m[:, index, None] / RADIUS_SCALE_M
    found[:, :, 10] = seen.speed_mps[:, None] / SPEED_SCALE_MPS
    found[:, :, 11] = seen.serving[:, None] == np.arange(cells)
    found[:, :, 12:] = stays(seen.serving, cells)
    return found


def margins(rsrp_dbm: FloatArray) -> FloatArray:
    """By how much each cell is better than the best of the others, dB."""
    order = np.sort(rsrp_dbm, axis=1)
    best_of_others = np.where(rsrp_dbm == order[:, -1:], order[:, -2:-1], order[:, -1:])
    return np.asarray(rsrp_dbm - best_of_others)


def gain_db(cells_m: FloatArray, places_m: FloatArray) -> FloatArray:
    """[t, cell]: what the distance does to the RSRP, up to a constant of the cell."""
    away_m = np.linalg.norm(places_m[:, None, :] - cells_m[None], axis=2)
    return np.asarray(-SLOPE_DB_PER_DECADE * np.log10(np.maximum(away_m, SHORTEST_M)))


def stays(serving: IntArray, cells: int) -> FloatArray:
    """[t, cell, 5]: time in the serving cell; last, mean and number of the completed stays in
    this cell; their mean in the serving cell. Stays before the first report are not known."""
    found = np.zeros((len(serving), cells, 5))
    completed: list[list[float]] = [[] for _ in range(cells)]
    since = 0
    for at, cell in enumerate(serving):
        if at and cell != serving[at - 1]:
            completed[serving[at - 1]].append(min(STAY_MAX_S, (at - since) * SAMPLE_PERIOD_S))
            since = at
        found[at, :, 0] = min(STAY_MAX_S, (at - since) * SAMPLE_PERIOD_S) / STAY_SCALE_S
        for other in range(cells):
            known = completed[other][-STAYS_REMEMBERED:]
            if known:
                mean_s = sum(known) / len(known)
                number = len(known) / STAYS_REMEMBERED
                found[at, other, 1:4] = known[-1] / STAY_SCALE_S, mean_s / STAY_SCALE_S, number
        known = completed[cell][-STAYS_REMEMBERED:]
        found[at, :, 4] = sum(known) / len(known) / STAY_SCALE_S if known else 0.0
    return found
