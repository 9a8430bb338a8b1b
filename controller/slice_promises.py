"""What a slice asks of each access point, and the names it may use. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from controller.contracts.inventory import Cell, Inventory, Reservation
from controller.contracts.live_slices import LiveSlice, ReservationInSlice
from controller.contracts.slices import (
    USABLE_SLICE_IDS,
    Slice,
    Strict,
    TrafficClass,
    dscp_of,
    queue_of,
)
from controller.errors import SliceError, UnknownTargetError
from controller.network_state import NetworkState
from controller.queues import FIXED_QUEUE_IDS

T = TypeVar("T", bound=Strict)


def parsed(schema: type[T], document: object) -> T:
    """Raises `SliceError` with the first thing that is wrong, and where."""
    if isinstance(document, schema):
        return document
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise SliceError(f"{place}: {fault['msg']}") from None


def living(state: NetworkState, slice_id: int) -> LiveSlice:
    """Raises `UnknownTargetError`; infrastructure's and the filler's are nobody's to change."""
    if slice_id in state.slices:
        return state.slices[slice_id]
    if slice_id not in USABLE_SLICE_IDS and 0 <= slice_id <= 15:
        raise SliceError(f"slice_id {slice_id} is the infrastructure's and cannot be changed")
    raise UnknownTargetError(f"no slice with slice_id {slice_id}; living: {living_names(state)}")


def named(state: NetworkState, wanted: str) -> int:
    """slice_id of a slice by name, S-NSSAI (`1-000001`) or id. Raises as `living`."""
    for slice_id, live in state.slices.items():
        if wanted in (live.slice.name, str(live.slice.s_nssai), str(slice_id)):
            return slice_id
    if wanted in ("0", "12", "15", "infrastructure", "background"):
        raise SliceError(f"slice {wanted} is the infrastructure's and cannot be changed")
    raise UnknownTargetError(f"unknown slice {wanted!r}; living: {living_names(state)}")


def living_names(state: NetworkState) -> str:
    return ", ".join(live.slice.name for live in state.slices.values()) or "none"


def wanted_reservations(
    inventory: Inventory, live: LiveSlice, given: Sequence[ReservationInSlice] | None
) -> dict[str, list[Reservation]]:
    """Covered cell -> the slice's reservations there; None: what the SLA guarantees.

    A class whose queue all slices share can hold no reservation of its own.
    """
    slice_ = live.slice
    cells = {c.cell_id: c for c in inventory.cells if slice_.covers(c.cell_id)}
    if given is None:
        if not _has_own_queue(slice_.slice_id, slice_.default_class):
            return {cell_id: [] for cell_id in cells}
        return {
            cell_id: [_reservation(slice_, cell, slice_.sla.guaranteed_mbps, None, None)]
            for cell_id, cell in cells.items()
        }
    found: dict[str, list[Reservation]] = {cell_id: [] for cell_id in cells}
    require_cells(inventory, [r.access_point for r in given])
    for r in given:
        if r.access_point not in cells:
            raise SliceError(f"slice {slice_.name} does not cover {r.access_point}")
        cell = cells[r.access_point]
        wanted = _reservation(slice_, cell, r.min_mbps, r.max_mbps, r.traffic_class)
        if any(w.traffic_class is wanted.traffic_class for w in found[r.access_point]):
            raise SliceError(f"{slice_.name} {wanted.traffic_class} on {r.access_point}: twice")
        found[r.access_point].append(wanted)
    return found


def _reservation(
    slice_: Slice,
    cell: Cell,
    min_mbps: float,
    max_mbps: float | None,
    asked: TrafficClass | None,
) -> Reservation:
    traffic_class = asked or slice_.default_class
    min_kbps = round(min_mbps * 1000)
    max_kbps = max(cell.down_kbps, min_kbps) if max_mbps is None else round(max_mbps * 1000)
    where = f"slice {slice_.name} {traffic_class} on {cell.cell_id}"
    if not _has_own_queue(slice_.slice_id, traffic_class):
        raise SliceError(f"{where}: this class has one queue for all slices, nothing to reserve")
    if not min_kbps <= max_kbps:
        raise SliceError(f"{where}: min_mbps {min_mbps:g} is above max_mbps {max_mbps:g}")
    return Reservation(
        slice_id=slice_.slice_id, traffic_class=traffic_class, min_kbps=min_kbps, max_kbps=max_kbps
    )


def _has_own_queue(slice_id: int, traffic_class: TrafficClass) -> bool:
    return queue_of(dscp_of(slice_id, traffic_class)) not in FIXED_QUEUE_IDS


def held_reservations(state: NetworkState, cell_id: str, slice_id: int) -> list[Reservation]:
    return [r for k, r in state.reservations.get(cell_id, {}).items() if k[0] == slice_id]


def require_cells(inventory: Inventory, cell_ids: Iterable[str]) -> None:
    known = [c.cell_id for c in inventory.cells]
    for cell_id in cell_ids:
        if cell_id not in known:
            raise UnknownTargetError(f"unknown cell {cell_id!r}; known: {', '.join(known)}")


def require_users(inventory: Inventory, ue_ids: Iterable[str]) -> None:
    known = {u.ue_id for u in inventory.users}
    for ue_id in ue_ids:
        if ue_id not in known:
            shown = ", ".join(sorted(known)[:20])
            raise UnknownTargetError(f"unknown user {ue_id!r}; known: {shown}")
