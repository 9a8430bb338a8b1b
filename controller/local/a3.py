"""Event A3 (TS 38.331 5.5.4.4) on users' reports: neighbour better than serving cell.

Pure: state and one measurement in, new state and perhaps a target cell out; the
measurement brings its own clock.  Inequality A3-1 enters (Mn + Ofn + Ocn - Hys >
Mp + Ofp + Ocp + Off), A3-2 leaves (Mn + Ofn + Ocn + Hys < Mp + Ofp + Ocp + Off).  All
cells share one measurement object, so Ofn = Ofp cancel out.  Who asks for the
handover is `handover_requests.py`; how it is done is the RIC's and Ryu's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from controller.contracts.inventory import HandoverConfig


class Measurement(NamedTuple):
    """What one user measured at `at_ns`; RSRP per cell in dBm."""

    serving: str
    rsrp_dbm: Mapping[str, float]
    at_ns: int


@dataclass(frozen=True, slots=True)
class A3State:
    """One user's event state; belongs to one serving cell."""

    serving: str
    entered_at_ns: Mapping[str, int] = field(default_factory=dict)
    """Neighbours whose entering condition held in every measurement since then."""
    triggered: frozenset[str] = frozenset()
    """cellsTriggeredList: stays until the leaving condition holds."""


@lru_cache(maxsize=1024)
def _quiet(serving: str) -> A3State:
    """Nothing entered, nothing triggered: nearly all users of a cell, who share it."""
    return A3State(serving)


def observe(
    state: A3State | None, measured: Measurement, config: HandoverConfig
) -> tuple[A3State, str | None]:
    """The next state, and the best triggered neighbour that is still better, or None.

    A change of serving cell starts afresh; a measurement without the serving
    cell's RSRP says nothing about any neighbour and starts afresh, too.
    """
    if state is None or state.serving != measured.serving:
        state = _quiet(measured.serving)
    if measured.serving not in measured.rsrp_dbm:
        return _quiet(measured.serving), None
    offset_db, hysteresis_db = config.cell_offsets_db, config.hysteresis_db
    if offset_db:
        weighed_dbm = {c: dbm + offset_db.get(c, 0.0) for c, dbm in measured.rsrp_dbm.items()}
    else:
        weighed_dbm = dict(measured.rsrp_dbm)
    to_beat_dbm = weighed_dbm.pop(measured.serving) + config.a3_offset_db
    is_quiet = not (state.entered_at_ns or state.triggered)
    if is_quiet and (not weighed_dbm or max(weighed_dbm.values()) - hysteresis_db <= to_beat_dbm):
        return state, None  # as it is almost always
    better = {c for c, dbm in weighed_dbm.items() if dbm - hysteresis_db > to_beat_dbm}
    entered_at_ns = {c: state.entered_at_ns.get(c, measured.at_ns) for c in better}
    kept = {
        c
        for c in state.triggered
        if c in weighed_dbm and not weighed_dbm[c] + hysteresis_db < to_beat_dbm
    }
    patience_ns = config.time_to_trigger_ms * 1_000_000
    fresh = {c for c, since_ns in entered_at_ns.items() if measured.at_ns - since_ns >= patience_ns}
    triggered = frozenset(kept | fresh)
    next_state = A3State(measured.serving, entered_at_ns, triggered)
    targets = sorted(better & triggered, key=lambda c: (-weighed_dbm[c], c))
    return next_state, targets[0] if targets else None
