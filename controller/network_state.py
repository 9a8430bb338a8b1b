"""What the network should be doing now: which slices live, who is served where, who holds what.

Plain immutable values.  `rules.py` turns them into flows and meters, `queues.py`
into queues; `enforcement.py` keeps the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controller.contracts.inventory import CellReservations, Inventory, Reservation, Service
from controller.contracts.live_slices import LiveSlice, live_slices
from controller.contracts.slices import TrafficClass

PairKey = tuple[int, TrafficClass]
"""(slice_id, traffic_class)."""


@dataclass(frozen=True)
class Attachment:
    """Where a user's packets go. In the middle of a handover the four differ.

    `downlink`: the cell the core sends to. `uplink`: the cell the air sends to.
    `carried`: cells whose switch sends the user's packets to the air.
    `accepted`: cells from which the air passes them on to the user.
    """

    downlink: str
    uplink: str | None
    carried: frozenset[str]
    accepted: frozenset[str]

    @classmethod
    def at(cls, cell_id: str) -> Attachment:
        return cls(cell_id, cell_id, frozenset({cell_id}), frozenset({cell_id}))


@dataclass(frozen=True)
class ChainedFunction:
    """A network function that a service's traffic passes; `draining`: where it was before."""

    name: str
    service: str
    host: str
    deny: tuple[str, ...] = ()
    draining: str | None = None


@dataclass(frozen=True)
class NetworkState:
    """`attachments` by ue_id; `reservations` by cell_id, at most one per (slice, class);
    `slices` by slice_id: users' slices, in the order in which they came."""

    attachments: Mapping[str, Attachment]
    reservations: Mapping[str, Mapping[PairKey, Reservation]]
    slices: Mapping[int, LiveSlice] = field(default_factory=dict)
    service_hosts: Mapping[str, str] = field(default_factory=dict)
    """Service name -> host that serves it, where that is not the inventory's."""
    functions: Mapping[str, ChainedFunction] = field(default_factory=dict)
    shares: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """slice_id -> ue_id -> share (0-1) of what the slice may send in the user's cell."""

    def attached(self, ue_id: str, attachment: Attachment) -> NetworkState:
        return replace(self, attachments={**self.attachments, ue_id: attachment})

    def reserved(self, cell_id: str, reservations: Iterable[Reservation]) -> NetworkState:
        """With exactly these reservations in the cell."""
        return replace(self, reservations={**self.reservations, cell_id: _by_pair(reservations)})

    def with_slice(self, live: LiveSlice) -> NetworkState:
        """The slice comes, or takes the place of what it was."""
        return replace(self, slices={**self.slices, live.slice.slice_id: live})

    def without_slice(self, slice_id: int) -> NetworkState:
        """The slice and all it holds are gone."""
        left = {i: live for i, live in self.slices.items() if i != slice_id}
        state = self.scheduled(slice_id, {})
        return replace(state, slices=left).holding(lambda key: key[0] != slice_id)

    def holding(self, keep: Callable[[PairKey], bool], cell_id: str | None = None) -> NetworkState:
        """Without the reservations (in one cell, or in all) of pairs that are not to be kept."""
        reservations = {
            name: held
            if cell_id not in (None, name)
            else {key: r for key, r in held.items() if keep(key)}
            for name, held in self.reservations.items()
        }
        return replace(self, reservations=reservations)

    def scheduled(self, slice_id: int, shares: Mapping[str, float]) -> NetworkState:
        """With exactly these shares in the slice; none: nobody is limited by one."""
        others = {i: s for i, s in self.shares.items() if i != slice_id}
        return replace(self, shares={**others, slice_id: dict(shares)} if shares else others)

    def served_by(self, service: str, host: str) -> NetworkState:
        return replace(self, service_hosts={**self.service_hosts, service: host})

    def chained(self, function: ChainedFunction) -> NetworkState:
        return self.with_functions({**self.functions, function.name: function})

    def unchained(self, name: str) -> NetworkState:
        return self.with_functions({n: f for n, f in self.functions.items() if n != name})

    def with_functions(self, functions: Mapping[str, ChainedFunction]) -> NetworkState:
        return replace(self, functions=functions)

    def service_host(self, service: Service) -> str:
        return self.service_hosts.get(service.name, service.host)

    def serving_cell(self, ue_id: str) -> str:
        return self.attachments[ue_id].downlink


def initial_state(inventory: Inventory) -> NetworkState:
    """Users where they attached first; what the policy reserves before any decision."""
    return NetworkState(
        attachments={u.ue_id: Attachment.at(u.cell_id) for u in inventory.users},
        reservations=_by_cell(inventory.initial_reservations),
        slices={live.slice.slice_id: live for live in live_slices(inventory)},
    )


def shaped(reservation: Reservation) -> Reservation:
    """The reservation as enforced: a real-time pair is shaped to what is guaranteed.

    Nothing real-time is oversubscribed (a queue that borrows builds delay it does
    not account for), so its ceiling is its guarantee whatever was asked; every
    diff and read-back shows the enforced numbers.
    """
    if reservation.traffic_class is not TrafficClass.REAL_TIME:
        return reservation
    return reservation.model_copy(update={"max_kbps": reservation.min_kbps})


def _by_cell(cells: Iterable[CellReservations]) -> dict[str, dict[PairKey, Reservation]]:
    return {c.cell_id: _by_pair(c.reservations) for c in cells}


def _by_pair(reservations: Iterable[Reservation]) -> dict[PairKey, Reservation]:
    return {(r.slice_id, r.traffic_class): shaped(r) for r in reservations}
