"""Slices as they live: with members and services; and what that makes of the inventory.

The inventory says what the emulation built.  Slices come, go and change while it
stands: `inventory_with` is the inventory as it reads with the slices of the
moment, and everything that is derived from an inventory (rules, twins, sessions,
addresses of hosts) follows from that.  All processes use this one function; the
RIC writes the slices of the moment into the run folder, so that each finds them
after a restart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from controller.contracts.addressing import service_ip, session_ip
from controller.contracts.inventory import Address, Host, Inventory, Service, Session, User
from controller.contracts.run_folder import RunFolder
from controller.contracts.slices import (
    RESERVED_SLICE_IDS,
    Slice,
    SlicePromise,
    SliceSla,
    Strict,
    TrafficClass,
)

log = logging.getLogger(__name__)

RateMbps = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ServiceInSlice(Strict):
    """A service that comes with its slice; keys as in a scenario."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    traffic_class: TrafficClass
    host: str
    candidates: list[str] = []
    protocol: Literal["udp", "tcp"] = "udp"
    port: Annotated[int, Field(ge=1024, le=65535)]


class ReservationInSlice(Strict):
    """Guaranteed rate and ceiling on an access point, L2; keys as in a scenario."""

    access_point: str
    min_mbps: RateMbps
    max_mbps: RateMbps | None = None
    """None: the access point's rate (real-time: `min_mbps`)."""
    traffic_class: TrafficClass | None = None
    """None: the slice's default class."""


class SliceSpec(SlicePromise):
    """A slice to be created: a scenario's slice with its members, services, reservations."""

    slice_id: Annotated[int, Field(ge=0, le=255)] | None = None
    """None: the lowest free one."""
    users: list[str] = []
    """Who gets a session (an address) in it."""
    services: list[ServiceInSlice] = []
    reservations: list[ReservationInSlice] | None = None
    """None: the SLA's guaranteed rate on each access point of its coverage."""


class SliceUpdate(Strict):
    """What shall change of a slice; what is left out stays."""

    sla: SliceSla | None = None
    user_max_mbps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Given as null: no limit any more."""
    default_class: TrafficClass | None = None
    cells: Annotated[list[str], Field(min_length=1)] | None = None
    add_users: list[str] = []
    remove_users: list[str] = []
    reservations: list[ReservationInSlice] | None = None
    """On the access points named; None with a new SLA: the SLA's guaranteed rate on each."""


class LiveSlice(Strict):
    """A slice of the moment; `users` and `services` in the order they came."""

    slice: Slice
    users: list[str] = []
    services: list[Service] = []


_LIVE = TypeAdapter(list[LiveSlice])


def live_slices(inventory: Inventory) -> list[LiveSlice]:
    """The slices that this inventory has, users' only."""
    return [
        LiveSlice(
            slice=slice_,
            users=[
                u.ue_id
                for u in inventory.users
                if any(s.slice_id == slice_.slice_id for s in u.sessions)
            ],
            services=[v for v in inventory.services if v.slice_id == slice_.slice_id],
        )
        for slice_ in inventory.slices
    ]


def services_of(spec: SliceSpec, slice_id: int) -> list[Service]:
    """With their addresses, in the slice's own prefix."""
    return [
        Service(
            name=service.name,
            slice_id=slice_id,
            address=service_ip(slice_id, index),
            port=service.port,
            protocol=service.protocol,
            traffic_class=service.traffic_class,
            host=service.host,
            candidates=service.candidates,
        )
        for index, service in enumerate(spec.services)
    ]


def inventory_with(inventory: Inventory, live: Sequence[LiveSlice]) -> Inventory:
    """The inventory with exactly these slices. Pure; who had a session keeps its place."""
    users = [_user_with(u, i, live) for i, u in enumerate(inventory.users)]
    sessions = {u.host: u.sessions for u in users}
    own = [v for item in live for v in item.services]
    return inventory.model_copy(
        update={
            "slices": [item.slice for item in live],
            "users": users,
            "services": [*_infrastructure_services(inventory), *own],
            "hosts": [_host_with(h, sessions.get(h.name)) for h in inventory.hosts],
        }
    )


def _infrastructure_services(inventory: Inventory) -> list[Service]:
    return [v for v in inventory.services if v.slice_id in RESERVED_SLICE_IDS]


def _user_with(user: User, index: int, live: Iterable[LiveSlice]) -> User:
    """Sessions that stay come first, in their order: the first is what a plain socket uses."""
    wanted = {item.slice.slice_id: item.slice for item in live if user.ue_id in item.users}
    stay = [
        s for s in user.sessions if s.slice_id in wanted and wanted[s.slice_id].s_nssai == s.s_nssai
    ]
    come = [slice_ for i, slice_ in wanted.items() if i not in {s.slice_id for s in stay}]
    new = [
        Session(slice_id=s.slice_id, s_nssai=s.s_nssai, ip=session_ip(s.slice_id, index))
        for s in come
    ]
    return user.model_copy(update={"sessions": [*stay, *new]})


def _host_with(host: Host, sessions: Sequence[Session] | None) -> Host:
    """A user's host has its sessions' addresses and what is infrastructure's."""
    if host.kind != "ue" or sessions is None:
        return host
    own = {s.ip: Address(slice_id=s.slice_id, ip=s.ip) for s in sessions}
    stay = [a for a in host.addresses if a.slice_id in RESERVED_SLICE_IDS or a.ip in own]
    come = [a for ip, a in own.items() if ip not in {b.ip for b in stay}]
    return host.model_copy(update={"addresses": [*stay, *come]})


# -- across restarts -------------------------------------------------------------


def documents(live: Iterable[LiveSlice]) -> list[dict[str, object]]:
    """As plain JSON, for files and other processes."""
    return [item.model_dump(mode="json") for item in live]


def parse(live: list[dict[str, object]]) -> list[LiveSlice]:
    return _LIVE.validate_python(live)


def remember(run: RunFolder, live: Sequence[LiveSlice]) -> None:
    """Whole or not at all: a process that reads meanwhile sees the old or the new file.

    The one before is kept beside it.  Raises `OSError`.
    """
    path = run.live_slices
    fresh, kept = path.with_suffix(".new"), path.with_suffix(".kept")
    fresh.write_bytes(_LIVE.dump_json(list(live)))
    if path.exists():
        kept.unlink(missing_ok=True)
        os.link(path, kept)
        os.replace(kept, _previous(run))
    os.replace(fresh, path)


def _previous(run: RunFolder) -> Path:
    return run.live_slices.with_suffix(".previous")


def current_inventory(run: RunFolder) -> Inventory:
    """The inventory with the slices of the moment: what a (re)starting process works on.

    With those before the last change where the file of the moment is damaged.
    """
    inventory = Inventory.load(run.inventory)
    for path in (run.live_slices, _previous(run)):
        try:
            return inventory_with(inventory, _LIVE.validate_json(path.read_bytes()))
        except FileNotFoundError:
            return inventory
        except ValidationError as error:
            log.error("%s is damaged, the one before counts: %s", path, error)
    return inventory
