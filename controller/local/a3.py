"""Event A3 (TS 38.331 5.5.4.4) on users' reports: neighbour better than serving cell.

Pure: state and one measurement in, new state and perhaps a target cell out; the
measurement brings its own clock.  The offsets of the event (Off, Ofn, Ocn, Ofp,
Ocp) are 0, so entering is Mn - Hys > Mp and leaving is Mn + Hys < Mp.  Who asks
for the handover is `handover_requests.py`; how it is done is the RIC's and Ryu's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.contracts.inventory import HandoverConfig


@dataclass(frozen=True, slots=True)
class Measurement:
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


def observe(
    state: A3State | None, measured: Measurement, config: HandoverConfig
) -> tuple[A3State, str | None]:
    """The next state, and the strongest triggered neighbour that is still better, or None.

    A change of serving cell starts afresh; a measurement without the serving
    cell's RSRP says nothing about any neighbour and starts afresh, too.
    """
    if state is None or state.serving != measured.serving:
        state = A3State(measured.serving)
    serving_dbm = measured.rsrp_dbm.get(measured.serving)
    if serving_dbm is None:
        return A3State(measured.serving), None
    neighbours_dbm = {c: dbm for c, dbm in measured.rsrp_dbm.items() if c != measured.serving}
    better = {c for c, dbm in neighbours_dbm.items() if dbm - config.hysteresis_db > serving_dbm}
    entered_at_ns = {c: state.entered_at_ns.get(c, measured.at_ns) for c in better}
    kept = {
        c
        for c in state.triggered
        if c in neighbours_dbm and not neighbours_dbm[c] + config.hysteresis_db < serving_dbm
    }
    patience_ns = config.time_to_trigger_ms * 1_000_000
    fresh = {c for c, since_ns in entered_at_ns.items() if measured.at_ns - since_ns >= patience_ns}
    triggered = frozenset(kept | fresh)
    next_state = A3State(measured.serving, entered_at_ns, triggered)
    targets = sorted(better & triggered, key=lambda c: (-neighbours_dbm[c], c))
    return next_state, targets[0] if targets else None
