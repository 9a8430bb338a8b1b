"""What the residence model reads of a user and each cell at this moment. Pure.

The same slots as in training (`models/residence_forecast/features.py`); a test compares both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from holon_xapp import UserEvent

Float32Array = npt.NDArray[np.float32]
Place = tuple[float, float]

FEATURES = 17
MARGIN_SCALE_DB, SLOPE_SCALE_DB, RADIUS_SCALE_M, SPEED_SCALE_MPS = 20.0, 5.0, 100.0, 30.0
STAY_SCALE_S, STAY_MAX_S, STAYS_REMEMBERED = 20.0, 60.0, 4
SLOPE_DB_PER_DECADE, SHORTEST_M = 21.0, 10.0
HORIZONS = 4
SLOPE_BACK = 2
"""Reports between the two margins whose difference is the change."""


@dataclass(frozen=True)
class Track:
    """What is remembered of a user. `margins_db`: of its newest reports, oldest first."""

    version: int = -1
    cell_id: str | None = None
    entered_ns: int = 0
    stays_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    margins_db: tuple[Mapping[str, float], ...] = ()


def observed(track: Track, event: UserEvent) -> Track:
    """The track with the event's report; a forecast of a known report changes nothing."""
    if event.cell_id is not None and event.cell_id != track.cell_id:
        track = _entered(track, event.cell_id, event.changed_at_ns)
    if event.version <= track.version or len(event.rsrp_dbm) < 2:
        return track
    recent = (*track.margins_db, margins_db(event.rsrp_dbm))[-SLOPE_BACK - 1 :]
    return replace(track, version=event.version, margins_db=recent)


def _entered(track: Track, cell_id: str, at_ns: int) -> Track:
    stays_s = dict(track.stays_s)
    if track.cell_id is not None:
        stay_s = min(STAY_MAX_S, (at_ns - track.entered_ns) / 1e9)
        before = stays_s.get(track.cell_id, ())
        stays_s[track.cell_id] = (*before, stay_s)[-STAYS_REMEMBERED:]
    return replace(track, cell_id=cell_id, entered_ns=at_ns, stays_s=stays_s)


def margins_db(rsrp_dbm: Mapping[str, float]) -> dict[str, float]:
    """By how much each cell is better than the best of the others; at least two cells."""
    return {
        cell_id: power - max(p for other, p in rsrp_dbm.items() if other != cell_id)
        for cell_id, power in rsrp_dbm.items()
    }


def is_complete(event: UserEvent, cells: Sequence[str], places_m: Mapping[str, Place]) -> bool:
    """Whether the twin shows all that the model reads, of all these cells, and its forecast is of
    its newest report: places of an older one do not fit where the user is now."""
    if event.forecast_at_ns < event.changed_at_ns:
        return False
    known = all(c in event.rsrp_dbm and c in places_m for c in cells)
    has_place = event.position_m is not None and event.speed_mps is not None
    return known and has_place and len(cells) > 1 and len(event.places) == HORIZONS


def features(
    track: Track, event: UserEvent, cells: Sequence[str], places_m: Mapping[str, Place]
) -> Float32Array:
    """[cell, 17] for the cells in this order; only of an event that `is_complete`."""
    place_m, speed_mps = event.position_m, event.speed_mps
    if place_m is None or speed_mps is None:
        raise ValueError(f"the twin of {event.ue_id} shows no place or speed")
    here_db = {c: gain_db(places_m[c], place_m) for c in cells}
    now_db = margins_db({c: event.rsrp_dbm[c] for c in cells})
    then_db = [
        margins_db(
            {c: event.rsrp_dbm[c] + gain_db(places_m[c], p.position_m) - here_db[c] for c in cells}
        )
        for p in event.places
    ]
    radii = [p.radius_m / RADIUS_SCALE_M for p in event.places]
    earlier = track.margins_db[0] if track.margins_db else {}
    since_s = min(STAY_MAX_S, (event.changed_at_ns - track.entered_ns) / 1e9)
    mean_there_s = _mean(track.stays_s.get(track.cell_id or "", ()))
    rows = []
    for cell_id in cells:
        known = track.stays_s.get(cell_id, ())
        rows.append(
            [
                now_db[cell_id] / MARGIN_SCALE_DB,
                (now_db[cell_id] - earlier.get(cell_id, now_db[cell_id])) / SLOPE_SCALE_DB,
                *(m[cell_id] / MARGIN_SCALE_DB for m in then_db),
                *radii,
                speed_mps / SPEED_SCALE_MPS,
                float(cell_id == track.cell_id),
                since_s / STAY_SCALE_S,
                (known[-1] if known else 0.0) / STAY_SCALE_S,
                _mean(known) / STAY_SCALE_S,
                len(known) / STAYS_REMEMBERED,
                mean_there_s / STAY_SCALE_S,
            ]
        )
    return np.array(rows, dtype=np.float32)


def gain_db(cell_m: Place, place_m: Place) -> float:
    return -SLOPE_DB_PER_DECADE * math.log10(max(SHORTEST_M, math.dist(cell_m, place_m)))


def usual_s(track: Track, cell_id: str) -> float:
    """The mean of the user's earlier stays in a cell; 0 when there is none."""
    return _mean(track.stays_s.get(cell_id, ()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
