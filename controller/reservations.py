"""Reservations of a cell: whether they can exist, and what they change. Pure.

Whether they are wise (slew, rate of decisions) is the guard's question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.contracts.inventory import Cell, Port, Reservation
from controller.contracts.queue_tree import QueueRates
from controller.errors import ReservationError, UnknownTargetError
from controller.metering import slice_meters, user_meters
from controller.network_state import NetworkState, shaped
from controller.network_view import Network
from controller.queues import Queues, port_queues
from controller.reconcile import Change


@dataclass(frozen=True)
class Headroom:
    """A cell's downlink in kbit/s: what guarantees may sum up to, and do."""

    reservable_kbps: int
    reserved_kbps: int
    link_kbps: int


def headroom(network: Network, state: NetworkState, cell: Cell) -> Headroom:
    held = state.reservations.get(cell.cell_id, {}).values()
    return Headroom(
        reservable_kbps=round(cell.down_kbps * network.inventory.reservable_ratio),
        reserved_kbps=sum(r.min_kbps for r in held),
        link_kbps=cell.down_kbps,
    )


def admitted(
    network: Network, state: NetworkState, cell: Cell, wanted: Sequence[Reservation]
) -> NetworkState:
    """The state in which the cell has exactly these reservations.

    Raises `UnknownTargetError` for a pair without traffic, `ReservationError` for
    rates that are not rates or sum up to more than the cell may promise.
    """
    for r in wanted:
        if (r.slice_id, r.traffic_class) not in network.pairs:
            known = ", ".join(f"{s}/{c}" for s, c in network.pairs)
            raise UnknownTargetError(
                f"no traffic of slice {r.slice_id} class {r.traffic_class}; live: {known}"
            )
        if not network.covers(cell.cell_id, r.slice_id):
            name = network.slices[r.slice_id].name
            raise ReservationError(f"slice {name} does not cover cell {cell.cell_id}")
        if not 0 <= r.min_kbps <= r.max_kbps:
            raise ReservationError(
                f"slice {r.slice_id}: min_kbps {r.min_kbps} must lie between 0 and "
                f"max_kbps {r.max_kbps}"
            )
    after = state.reserved(cell.cell_id, [shaped(r) for r in wanted])
    room = headroom(network, after, cell)
    if room.reserved_kbps > room.reservable_kbps:
        raise ReservationError(
            f"cell {cell.cell_id}: guarantees would sum up to {room.reserved_kbps} kbit/s; "
            f"{room.reservable_kbps} of {room.link_kbps} are reservable"
        )
    return after


def of_living(network: Network, state: NetworkState) -> NetworkState:
    """Without those of slices that ended, of which a scenario or a journal may still tell."""
    return state.holding(lambda key: key in network.pairs)


def down_port(network: Network, cell: Cell) -> Port:
    return next(p for p in network.ports[cell.switch] if p.port_no == cell.down_port)


def meter_change(network: Network, cell: Cell, before: NetworkState, after: NetworkState) -> Change:
    """Rates only: no flow, and no meter comes or goes. Users' shares are of their slice's rate."""
    old, new = (
        {**slice_meters(network, state, cell.switch), **user_meters(network, state, cell.switch)[1]}
        for state in (before, after)
    )
    return Change(cell.switch, meters_modify=tuple(m for i, m in new.items() if old[i] != m))


def cell_queues(network: Network, state: NetworkState, cell: Cell) -> dict[str, Queues]:
    """Interface -> own queues of the cell's downlink. Empty without slicing."""
    if not network.inventory.slicing:
        return {}
    port = down_port(network, cell)
    return {port.interface: port_queues(network, state, port)}


def queue_diff(
    network: Network, cell: Cell, before: NetworkState, after: NetworkState
) -> dict[str, Any]:
    """Interface -> queue id -> {before, after}; only what differs."""
    found = {}
    old = cell_queues(network, before, cell)
    for interface, queues in cell_queues(network, after, cell).items():
        found[interface] = {
            str(i): {"before": _rates_json(old[interface][i]), "after": _rates_json(rates)}
            for i, rates in queues.items()
            if old[interface][i] != rates
        }
    return found


def _rates_json(rates: QueueRates) -> dict[str, int]:
    return {
        "min_kbps": rates.min_kbps,
        "max_kbps": rates.max_kbps,
        "priority": rates.priority,
    }
