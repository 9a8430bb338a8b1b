"""The inventory indexed for writing rules: who is behind which port, which pairs are live.

Computed once; rules for a switch then cost time in proportion to the rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from controller.contracts.addressing import COLLECTOR_IP, session_ip
from controller.contracts.inventory import (
    Cell,
    Host,
    Inventory,
    Port,
    PortRole,
    Service,
    Switch,
    SwitchRole,
    User,
)
from controller.contracts.live_slices import inventory_with
from controller.contracts.slices import (
    BACKGROUND_SLICE_ID,
    INFRASTRUCTURE_SLICE_ID,
    Slice,
    TrafficClass,
)
from controller.errors import NetworkDescriptionError
from controller.network_state import NetworkState, PairKey

T = TypeVar("T")


@dataclass(frozen=True)
class LocalAddress:
    """An address a host may use as its own: session, infrastructure or service."""

    slice_id: int
    ip: str


@dataclass(frozen=True, eq=False)
class Network:
    """Facts of the inventory by what rules ask for. Read only; equal to itself only, so that
    what follows from it alone is worked out once."""

    inventory: Inventory
    switches: Mapping[str, Switch]
    ports: Mapping[str, tuple[Port, ...]]
    """Switch name -> its ports."""
    hosts: Mapping[str, Host]
    users: Mapping[str, User]
    user_index: Mapping[str, int]
    slices: Mapping[int, Slice]
    """Users' slices, without infrastructure and filler."""
    slice_ids: tuple[int, ...]
    """All that packets may be in, infrastructure (and the filler, if any) included."""
    pairs: tuple[PairKey, ...]
    """Live (slice, class) pairs of users' slices: default classes and services' classes."""
    cells: Mapping[str, Cell]
    cells_of_switch: Mapping[str, tuple[Cell, ...]]
    services_of_slice: Mapping[int, tuple[Service, ...]]
    services_of_host: Mapping[str, tuple[Service, ...]]
    local_addresses: Mapping[str, tuple[LocalAddress, ...]]
    """Host name -> every address it may send from."""

    def covers(self, cell_id: str, slice_id: int) -> bool:
        """Whether the cell carries the slice; infrastructure and filler are everywhere."""
        return slice_id not in self.slices or self.slices[slice_id].covers(cell_id)

    def pairs_of(self, cell_id: str) -> tuple[PairKey, ...]:
        """Live pairs of users' slices that the cell carries."""
        return tuple(key for key in self.pairs if self.covers(cell_id, key[0]))

    @cached_property
    def core(self) -> str:
        return next(s.name for s in self.switches.values() if s.role is SwitchRole.CORE)

    @cached_property
    def all_pairs(self) -> tuple[PairKey, ...]:
        """Pairs that may be seen between switches: users', infrastructure's, the filler's."""
        shared = [INFRASTRUCTURE_SLICE_ID]
        if BACKGROUND_SLICE_ID in self.slice_ids:
            shared.append(BACKGROUND_SLICE_ID)
        return (*((s, TrafficClass.BEST_EFFORT) for s in shared), *self.pairs)

    def default_class(self, slice_id: int) -> TrafficClass:
        """Infrastructure and filler are best-effort: codes 0 and 60, queues 0 and 2."""
        if slice_id in self.slices:
            return self.slices[slice_id].default_class
        return TrafficClass.BEST_EFFORT

    def edge_ports(self, switch: str) -> tuple[Port, ...]:
        return tuple(p for p in self.ports[switch] if p.role is not PortRole.INFRASTRUCTURE)

    def filler_ip(self, cell_id: str) -> str | None:
        """Address of the filler's sink in a cell; None without a filler."""
        if BACKGROUND_SLICE_ID not in self.slice_ids:
            return None
        return session_ip(BACKGROUND_SLICE_ID, list(self.cells).index(cell_id))

    def filler_sink(self) -> Host | None:
        for host in self.hosts.values():
            on_air = self.switches[host.switch].role is SwitchRole.AIR
            if host.kind == "background" and on_air:
                return host
        return None

    def user_addresses(self, user: User) -> tuple[LocalAddress, ...]:
        own = LocalAddress(INFRASTRUCTURE_SLICE_ID, user.infrastructure_ip)
        return (*(LocalAddress(s.slice_id, s.ip) for s in user.sessions), own)


def network_at(inventory: Inventory, state: NetworkState) -> Network:
    """The network with the slices of that state; `inventory` is any of the same run."""
    return network_of(inventory_with(inventory, list(state.slices.values())))


def network_of(inventory: Inventory) -> Network:
    """Raises `NetworkDescriptionError` when names in the inventory do not resolve."""
    hosts = {h.name: h for h in inventory.hosts}
    services_of_host: dict[str, list[Service]] = defaultdict(list)
    for service in inventory.services:
        for name in dict.fromkeys([service.host, *service.candidates]):
            services_of_host[name].append(service)
    network = Network(
        inventory=inventory,
        switches={s.name: s for s in inventory.switches},
        ports=_grouped([(p.switch, p) for p in inventory.ports], inventory),
        hosts=hosts,
        users={u.ue_id: u for u in inventory.users},
        user_index={u.ue_id: i for i, u in enumerate(inventory.users)},
        slices={s.slice_id: s for s in inventory.slices},
        slice_ids=_slice_ids(inventory),
        pairs=_live_pairs(inventory),
        cells={c.cell_id: c for c in inventory.cells},
        cells_of_switch=_grouped([(c.switch, c) for c in inventory.cells], inventory),
        services_of_slice={
            s.slice_id: tuple(v for v in inventory.services if v.slice_id == s.slice_id)
            for s in inventory.slices
        },
        services_of_host={name: tuple(v) for name, v in services_of_host.items()},
        local_addresses={
            h.name: _local_addresses(h, services_of_host[h.name]) for h in inventory.hosts
        },
    )
    _refuse_dangling(network)
    return network


def _grouped(items: list[tuple[str, T]], inventory: Inventory) -> dict[str, tuple[T, ...]]:
    groups: dict[str, list[T]] = {s.name: [] for s in inventory.switches}
    for switch, item in items:
        if switch not in groups:
            raise NetworkDescriptionError(f"inventory: {item!r} is on unknown switch {switch!r}")
        groups[switch].append(item)
    return {name: tuple(members) for name, members in groups.items()}


def _slice_ids(inventory: Inventory) -> tuple[int, ...]:
    filler = any(h.kind == "background" for h in inventory.hosts)
    background = [BACKGROUND_SLICE_ID] if filler else []
    return (INFRASTRUCTURE_SLICE_ID, *sorted(s.slice_id for s in inventory.slices), *background)


def _live_pairs(inventory: Inventory) -> tuple[PairKey, ...]:
    pairs = {(s.slice_id, s.default_class) for s in inventory.slices}
    pairs |= {(v.slice_id, v.traffic_class) for v in inventory.services}
    return tuple(sorted(pairs, key=lambda p: (p[0], p[1].code)))


def _local_addresses(host: Host, services: list[Service]) -> tuple[LocalAddress, ...]:
    own = [LocalAddress(a.slice_id, a.ip) for a in host.addresses]
    if host.kind == "edge":
        own.append(LocalAddress(INFRASTRUCTURE_SLICE_ID, COLLECTOR_IP))
    own += [LocalAddress(v.slice_id, v.address) for v in services]
    return tuple(dict.fromkeys(own))


def _refuse_dangling(network: Network) -> None:
    for user in network.users.values():
        if user.host not in network.hosts:
            raise NetworkDescriptionError(f"user {user.ue_id}: unknown host {user.host!r}")
    for cell in network.cells.values():
        if cell.edge not in network.hosts:
            raise NetworkDescriptionError(f"cell {cell.cell_id}: unknown edge {cell.edge!r}")
    for service in network.inventory.services:
        if service.host not in network.hosts:
            raise NetworkDescriptionError(f"service {service.name}: unknown host {service.host!r}")
