"""Simulated drives: cells along a road, users that commute, shuttle, wander; who serves them when.

Mobility and path loss are the testbed's own; the handover is event A3 on reports every
half second, as local controllers see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.mobility_forecast.dataset import drive, emulated_speeds
from models.residence_forecast.features import FloatArray, IntArray
from models.residence_forecast.shape import SAMPLE_PERIOD_S
from topologies.mobility import position_m
from topologies.radio import RESOURCE_ELEMENTS_DB, path_loss_db
from topologies.scenario.schema import LoopMobility, PositionM

DRIVE_S = 180.0
_GRID_M = np.arange(0.0, 6000.0, 1.0)
_LOSS_DB = np.array([path_loss_db("sbs", 3.5, d) for d in _GRID_M])
_TIMES_TO_TRIGGER_MS = (0, 160, 320, 640)


@dataclass(frozen=True)
class Drive:
    """`track_m` [t, 2], `rsrp_dbm` [t, cell], `serving` [t], one row a report."""

    cells_m: FloatArray
    track_m: FloatArray
    rsrp_dbm: FloatArray
    serving: IntArray


def drives(random: np.random.Generator, count: int) -> Iterator[Drive]:
    for _ in range(count):
        cells_m = _cells(random)
        track_m = _track(random, cells_m)
        power_dbm = 33.0 + random.choice([0.0, 0.0, -3.0, 3.0], len(cells_m))
        rsrp_dbm = rsrp(cells_m, track_m, power_dbm)
        serving = served_by(
            rsrp_dbm, random.uniform(0.5, 3.5), int(random.choice(_TIMES_TO_TRIGGER_MS))
        )
        yield Drive(cells_m, track_m, rsrp_dbm, serving)


def rsrp(cells_m: FloatArray, track_m: FloatArray, power_dbm: FloatArray) -> FloatArray:
    away_m = np.linalg.norm(track_m[:, None, :] - cells_m[None], axis=2)
    return np.asarray(power_dbm - RESOURCE_ELEMENTS_DB - np.interp(away_m, _GRID_M, _LOSS_DB))


def served_by(rsrp_dbm: FloatArray, hysteresis_db: float, time_to_trigger_ms: int) -> IntArray:
    """Serving cell at each report: A3 with this hysteresis and patience, no offsets."""
    serving = int(rsrp_dbm[0].argmax())
    since = np.full(rsrp_dbm.shape[1], -1)
    found = np.empty(len(rsrp_dbm), dtype=np.int64)
    for at, powers in enumerate(rsrp_dbm):
        found[at] = serving
        better = powers - hysteresis_db > powers[serving]
        since = np.where(better, np.where(since < 0, at, since), -1)
        patient = better & ((at - since) * SAMPLE_PERIOD_S * 1000 >= time_to_trigger_ms)
        if patient.any():
            serving = int(np.where(patient, powers, -np.inf).argmax())
            since[:] = -1
    return found


def _cells(random: np.random.Generator) -> FloatArray:
    """Two to four in a row."""
    count = int(random.integers(2, 5))
    along_m = np.cumsum(random.uniform(150, 450, count))
    return np.stack([along_m - along_m.mean(), random.uniform(-60, 60, count)], axis=1)


def _track(random: np.random.Generator, cells_m: FloatArray) -> FloatArray:
    kind = random.choice(["shuttle", "shuttle", "loop", "road"])
    if kind == "road":
        speeds = emulated_speeds(1, random)[0]
        way_m = drive(random, speeds)
        return np.asarray(way_m - way_m[int(random.integers(len(way_m)))])
    west, east = cells_m[0, 0] - 150, cells_m[-1, 0] + 150
    if kind == "shuttle":
        one, other = np.sort(random.uniform(west, east, 2))
        other = max(other, one + 60)
        low_m, high_m = random.uniform(-25, 0), random.uniform(1, 25)
        corners = [(one, high_m), (other, high_m), (other, low_m), (one, low_m)]
    else:
        corners = [
            (random.uniform(west, east), random.uniform(-150, 150))
            for _ in range(random.integers(3, 6))
        ]
    return _driven(random, [(float(x), float(y)) for x, y in corners])


def _driven(random: np.random.Generator, corners: list[PositionM]) -> FloatArray:
    way = LoopMobility(
        waypoints_m=corners, speed_mps=random.uniform(4, 30), offset_ratio=random.uniform(0, 0.999)
    )
    t_s = np.arange(0.0, DRIVE_S, SAMPLE_PERIOD_S)
    return np.array([position_m(way, 1, "user", float(t)) for t in t_s])
