"""A decision's document on an emulated network: read, guarded and carried out as live. Pure.

Only reservations: an emulated network has no switches to hand a user over between.  Rate limits
and staleness are not the emulator's: it has no clock that could be late.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.contracts.decisions import (
    Action,
    DecisionRecord,
    DecisionRequest,
    Effect,
    ReservationRequest,
    Verdict,
)
from controller.contracts.inventory import Reservation
from controller.contracts.slices import Slice
from controller.guard import (
    CellView,
    GuardLimits,
    Rejection,
    check_admission,
    check_bounds,
    check_slew,
    key_of,
    merged,
)
from controller.network_state import shaped

EMULATED = "emulated: guarded and carried out on the what-if emulator"


def decided(
    request: DecisionRequest,
    cell: CellView,
    slices: Sequence[Slice],
    limits: GuardLimits | None = None,
) -> tuple[DecisionRecord, tuple[Reservation, ...]]:
    """The record, and what the cell holds after it. Raises ValueError for what is no reservation
    of this cell's slices (pydantic's for a malformed one)."""
    changes = reservations_of(request, slices)
    rejection = (
        check_bounds(cell, changes)
        or check_slew(cell, changes, limits or GuardLimits())
        or check_admission(cell, changes)
    )
    held = dict(cell.reservations)
    if rejection is None:
        held = merged(held, [shaped(change) for change in changes])
    return _record(request, rejection), tuple(held.values())


def reservations_of(request: DecisionRequest, slices: Sequence[Slice]) -> list[Reservation]:
    """Of a whole plan, or of one slice. Raises ValueError."""
    if request.action is not Action.RESERVE:
        raise ValueError(f"action {request.action.value!r}: an emulated network only reserves")
    asked = request.parameters.get("reservations")
    if asked is None:
        asked = [{"s_nssai": request.target.get("s_nssai"), **request.parameters}]
    by_name = {s.s_nssai: s for s in slices}
    changes = []
    for item in map(ReservationRequest.model_validate, asked):
        if item.s_nssai not in by_name:
            known = ", ".join(str(s) for s in by_name)
            raise ValueError(f"unknown slice {item.s_nssai}; slices: {known}")
        slice_ = by_name[item.s_nssai]
        changes.append(
            Reservation(
                slice_id=slice_.slice_id,
                traffic_class=item.traffic_class or slice_.default_class,
                min_kbps=round(item.min_kbps),
                max_kbps=round(item.max_kbps),
            )
        )
    return changes


def view_of(
    cell_id: str, link_kbps: float, reservable_ratio: float, held: Sequence[Reservation]
) -> CellView:
    return CellView(cell_id, round(link_kbps), reservable_ratio, {key_of(r): r for r in held})


def _record(request: DecisionRequest, rejection: Rejection | None) -> DecisionRecord:
    return DecisionRecord(
        decision_id=request.decision_id or request.trace_id,
        trace_id=request.trace_id,
        xapp=request.xapp,
        action=request.action,
        target=request.target,
        parameters=request.parameters,
        based_on=request.based_on,
        verdict=Verdict.APPLIED if rejection is None else Verdict.REJECTED,
        reason=EMULATED if rejection is None else rejection.reason,
        hops_ns=request.hops_ns,
        effect=Effect.NOT_EXERCISED,
    )
