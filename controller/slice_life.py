"""The life of slices: what the network should be after one is created, changed or ended. Pure.

`applied` takes an intent as a plain JSON document and a state, and returns the
state after it; every reason to refuse is raised before anything is changed.

Kinds of documents: `slice.create {slice: SliceSpec}`, `slice.update {slice_id,
changes: SliceUpdate}`, `slice.terminate {slice_id}`, `slice.cover {slice_id, cell_id,
min_mbps?, max_mbps?}`, `slice.uncover {slice_id, cell_id}`, `reserve {cell_id,
reservations: [Reservation]}` (all of the cell's), `attach {ue_id, cell_id}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.live_slices import (
    LiveSlice,
    ReservationInSlice,
    SliceSpec,
    SliceUpdate,
    services_of,
)
from controller.contracts.slices import (
    USABLE_SLICE_IDS,
    Slice,
    Strict,
    usable_slice_id,
)
from controller.errors import (
    AdmissionError,
    SliceConflictError,
    SliceError,
    UnknownTargetError,
)
from controller.network_state import Attachment, NetworkState
from controller.network_view import Network, network_at
from controller.reservations import admitted
from controller.slice_admission import Room, newly_overfull, rooms
from controller.slice_promises import (
    held_reservations,
    living,
    living_names,
    parsed,
    require_cells,
    require_users,
    wanted_reservations,
)

Document = Mapping[str, Any]
T = TypeVar("T", bound=Strict)


@dataclass(frozen=True)
class Planned:
    """The state after an intent, and the room its slice finds in it (none: it asks nothing)."""

    state: NetworkState
    network: Network
    slice_id: int | None = None
    rooms: tuple[Room, ...] = ()


def applied(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    """The state after the intent.

    Raises `UnknownTargetError`, `SliceConflictError`, `AdmissionError`, `SliceError`
    (`ReservationError` for a `reserve`), and `KeyError` for a document of no kind.
    """
    return _KINDS[document["kind"]](inventory, state, document)


# -- creating ---------------------------------------------------------------------


def _create(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    spec = parsed(SliceSpec, document["slice"])
    slice_id = _free_id(state, spec)
    _refuse_duplicates(state, spec)
    require_cells(inventory, spec.cells or [])
    require_users(inventory, spec.users)
    _refuse_services(inventory, state, spec)
    promise = {name: getattr(spec, name) for name in Slice.model_fields if name != "slice_id"}
    live = LiveSlice(
        slice=Slice(slice_id=slice_id, **promise),
        users=list(dict.fromkeys(spec.users)),
        services=services_of(spec, slice_id),
    )
    wanted = wanted_reservations(inventory, live, spec.reservations)
    return _admitted(inventory, state, state.with_slice(live), slice_id, wanted)


def _free_id(state: NetworkState, spec: SliceSpec) -> int:
    free = [i for i in USABLE_SLICE_IDS if i not in state.slices]
    if not free:
        raise SliceConflictError(
            f"all {len(USABLE_SLICE_IDS)} slices that the DSCP can name are in use: "
            f"{living_names(state)}; terminate one first"
        )
    if spec.slice_id is None:
        return free[0]
    try:
        usable_slice_id(spec.slice_id)
    except ValueError as error:
        raise SliceError(str(error)) from None
    if spec.slice_id in state.slices:
        holder = state.slices[spec.slice_id].slice.name
        raise SliceConflictError(
            f"slice_id {spec.slice_id} (addresses 10.{spec.slice_id}.0.0/16) is {holder}'s; "
            f"free: {', '.join(map(str, free))}"
        )
    if spec.slice_id not in free:
        raise SliceError(f"slice_id {spec.slice_id} has no code points; free: {free}")
    return spec.slice_id


def _refuse_duplicates(state: NetworkState, spec: SliceSpec) -> None:
    for live in state.slices.values():
        if live.slice.name == spec.name:
            raise SliceConflictError(f"a slice named {spec.name} lives already")
        if live.slice.s_nssai == spec.s_nssai:
            raise SliceConflictError(f"S-NSSAI {spec.s_nssai} is slice {live.slice.name}'s")


def _refuse_services(inventory: Inventory, state: NetworkState, spec: SliceSpec) -> None:
    servers = [h.name for h in inventory.hosts if h.kind in ("edge", "cloud")]
    taken = {v.name for live in state.slices.values() for v in live.services}
    for service in spec.services:
        if service.name in taken:
            raise SliceConflictError(f"a service named {service.name} exists already")
        taken.add(service.name)
        for host in (service.host, *service.candidates):
            if host not in servers:
                raise UnknownTargetError(
                    f"service {service.name}: unknown server {host!r}; "
                    f"servers: {', '.join(servers)}"
                )


# -- changing ---------------------------------------------------------------------


def _update(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    live = living(state, document["slice_id"])
    changes = parsed(SliceUpdate, document["changes"])
    require_cells(inventory, changes.cells or [])
    require_users(inventory, [*changes.add_users, *changes.remove_users])
    absent = [u for u in changes.remove_users if u not in live.users]
    if absent:
        raise SliceError(f"{', '.join(absent)} has no session in slice {live.slice.name}")
    stay = [u for u in (*live.users, *changes.add_users) if u not in changes.remove_users]
    given: dict[str, Any] = {
        name: getattr(changes, name)
        for name in ("sla", "user_max_mbps", "default_class", "cells")
        if name in changes.model_fields_set
    }
    if given.get("sla", "") is None or given.get("default_class", "") is None:
        raise SliceError("sla and default_class can be changed, not taken away")
    changed = live.model_copy(
        update={
            "slice": Slice.model_validate(live.slice.model_copy(update=given).model_dump()),
            "users": list(dict.fromkeys(stay)),
        }
    )
    wanted = _changed_reservations(inventory, state, live, changed, changes)
    slice_id = live.slice.slice_id
    return _admitted(inventory, state, state.with_slice(changed), slice_id, wanted)


def _changed_reservations(
    inventory: Inventory,
    state: NetworkState,
    live: LiveSlice,
    changed: LiveSlice,
    changes: SliceUpdate,
) -> dict[str, list[Reservation]]:
    """What the slice shall hold: as given; as its new promise says; else as it is."""
    renewed = (
        changed.slice.sla.guaranteed_mbps != live.slice.sla.guaranteed_mbps
        or changed.slice.default_class is not live.slice.default_class
    )
    by_promise = wanted_reservations(inventory, changed, None)
    if changes.reservations is None and renewed:
        return by_promise
    given = wanted_reservations(inventory, changed, changes.reservations or [])
    held = {
        cell_id: held_reservations(state, cell_id, live.slice.slice_id) for cell_id in by_promise
    }
    return {
        cell_id: _replaced(held[cell_id], given[cell_id])
        if live.slice.covers(cell_id) or given.get(cell_id)
        else fresh
        for cell_id, fresh in by_promise.items()
    }


def _replaced(held: Sequence[Reservation], given: Sequence[Reservation]) -> list[Reservation]:
    by_class = {r.traffic_class: r for r in held} | {r.traffic_class: r for r in given}
    return list(by_class.values())


def _cover(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    live = living(state, document["slice_id"])
    slice_, cell_id = live.slice, document["cell_id"]
    require_cells(inventory, [cell_id])
    if slice_.covers(cell_id):
        raise SliceConflictError(f"slice {slice_.name} covers {cell_id} already")
    cells = [*(slice_.cells or []), cell_id]
    everywhere = set(cells) == {c.cell_id for c in inventory.cells}
    given = None
    if document.get("min_mbps") is not None:
        given = [
            parsed(
                ReservationInSlice,
                {
                    "access_point": cell_id,
                    "min_mbps": document["min_mbps"],
                    "max_mbps": document.get("max_mbps"),
                },
            )
        ]
    return _recovered(inventory, state, live, None if everywhere else cells, given)


def _uncover(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    live = living(state, document["slice_id"])
    slice_, cell_id = live.slice, document["cell_id"]
    require_cells(inventory, [cell_id])
    if not slice_.covers(cell_id):
        raise SliceConflictError(f"slice {slice_.name} does not cover {cell_id}")
    left = [c.cell_id for c in inventory.cells if slice_.covers(c.cell_id) and c.cell_id != cell_id]
    if not left:
        raise SliceError(
            f"{cell_id} is the last cell of slice {slice_.name}; terminate the slice instead"
        )
    return _recovered(inventory, state, live, left, None)


def _recovered(
    inventory: Inventory,
    state: NetworkState,
    live: LiveSlice,
    cells: list[str] | None,
    given: list[ReservationInSlice] | None,
) -> Planned:
    """With another coverage; new cells get what is given, else what the SLA guarantees."""
    changed = live.model_copy(update={"slice": live.slice.model_copy(update={"cells": cells})})
    slice_id = live.slice.slice_id
    promised = wanted_reservations(inventory, changed, given)
    wanted = {
        cell_id: list(held_reservations(state, cell_id, slice_id))
        if live.slice.covers(cell_id)
        else fresh
        for cell_id, fresh in promised.items()
    }
    return _admitted(inventory, state, state.with_slice(changed), slice_id, wanted)


# -- ending -----------------------------------------------------------------------


def _terminate(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    live = living(state, document["slice_id"])
    names = {service.name for service in live.services}
    for function in state.functions.values():
        if function.service in names:
            raise SliceConflictError(
                f"{function.service} of slice {live.slice.name} is passed through the network "
                f"function {function.name}; remove that first (vnf remove {function.name})"
            )
    after = state.without_slice(live.slice.slice_id)
    return Planned(after, network_at(inventory, after), live.slice.slice_id)


# -- other intents, so that one function applies them all ---------------------------


def _reserve(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    network = network_at(inventory, state)
    require_cells(inventory, [document["cell_id"]])
    wanted = [parsed(Reservation, r) for r in document["reservations"]]
    cell = network.cells[document["cell_id"]]
    return Planned(admitted(network, state, cell, wanted), network)


def _attach(inventory: Inventory, state: NetworkState, document: Document) -> Planned:
    require_users(inventory, [document["ue_id"]])
    require_cells(inventory, [document["cell_id"]])
    after = state.attached(document["ue_id"], Attachment.at(document["cell_id"]))
    return Planned(after, network_at(inventory, after))


_KINDS = {
    "slice.create": _create,
    "slice.update": _update,
    "slice.terminate": _terminate,
    "slice.cover": _cover,
    "slice.uncover": _uncover,
    "reserve": _reserve,
    "attach": _attach,
}


def _admitted(
    inventory: Inventory,
    before: NetworkState,
    after: NetworkState,
    slice_id: int,
    wanted: Mapping[str, Sequence[Reservation]],
) -> Planned:
    """With these reservations of the slice and no others. Raises `AdmissionError`."""
    after = after.holding(lambda key: key[0] != slice_id)
    for cell_id, mine in wanted.items():
        others = after.reservations.get(cell_id, {}).values()
        after = after.reserved(cell_id, [*others, *mine])
    network = network_at(inventory, after)
    live_pairs = set(network.pairs)
    for mine in wanted.values():
        for r in mine:
            if (r.slice_id, r.traffic_class) not in live_pairs:
                raise SliceError(f"the slice has no {r.traffic_class} traffic to reserve for")
    planned = Planned(after, network, slice_id, tuple(rooms(network, after, slice_id)))
    full = [room for room in planned.rooms if not room.fits]
    full = full or newly_overfull(network_at(inventory, before), before, network, after)
    if full:
        raise AdmissionError("; ".join(room.words() for room in full), planned.rooms)
    return planned
