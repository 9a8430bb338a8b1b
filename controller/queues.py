"""Queues: which a port with a rate has, and at what rates.  Pure; `port_queues` applies them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from controller.contracts.inventory import Cell, Port, Reservation
from controller.contracts.queue_tree import (
    LEAST_RATE_KBPS,
    PRIORITY,
    QueueRates,
    fixed_queues,
)
from controller.contracts.slices import TrafficClass, dscp_of, queue_of
from controller.network_state import NetworkState, PairKey
from controller.network_view import Network

Queues = Mapping[int, QueueRates]
QueuesByInterface = dict[str, Queues]

FIXED_QUEUE_IDS = frozenset(fixed_queues(1, 1.0))

# -- intent --------------------------------------------------------------------


def queue_rates(network: Network, state: NetworkState) -> QueuesByInterface:
    """Interface of each port with a rate -> its own-queue pairs. Empty without slicing."""
    if not network.inventory.slicing:
        return {}
    return {
        port.interface: port_queues(network, state, port)
        for ports in network.ports.values()
        for port in ports
        if port.rate_kbps is not None
    }


def port_queues(network: Network, state: NetworkState, port: Port) -> Queues:
    """A cell's downlink by its reservations, any other link in shares by promise."""
    keys = own_queue_pairs(network)
    cell = next(
        (c for c in network.cells_of_switch[port.switch] if c.down_port == port.port_no), None
    )
    link_kbps = port.rate_kbps or 0
    if cell is not None:
        reservations = state.reservations.get(cell.cell_id, {})
        return {
            queue_of(dscp_of(*key)): downlink_rates(cell, key, reservations.get(key))
            for key in keys
            if network.covers(cell.cell_id, key[0])
        }
    shares = link_shares(network, link_kbps)
    return {queue_of(dscp_of(*key)): _share(key, shares[key], link_kbps) for key in keys}


def link_shares(network: Network, link_kbps: int) -> dict[PairKey, int]:
    """What each pair is guaranteed on a link without reservations, kbit/s.

    In proportion to what the slices' SLAs guarantee, so that a slice that comes takes
    from the others only in the measure of its own promise; a slice's pairs share evenly.
    """
    keys = own_queue_pairs(network)
    of_slice = Counter(slice_id for slice_id, _ in keys)
    promised = {i: network.slices[i].sla.guaranteed_mbps for i in of_slice}
    unit_kbps = link_kbps * network.inventory.reservable_ratio / (sum(promised.values()) or 1)
    return {key: int(unit_kbps * promised[key[0]] / of_slice[key[0]]) for key in keys}


def own_queue_pairs(network: Network) -> list[PairKey]:
    """Live pairs with a queue of their own: elastic and real-time ones."""
    return [k for k in network.pairs if queue_of(dscp_of(*k)) not in FIXED_QUEUE_IDS]


def downlink_rates(cell: Cell, key: PairKey, reservation: Reservation | None) -> QueueRates:
    """Reserved: guarantee and ceiling (real-time: equal, see `network_state.shaped`).

    Not reserved: the least guarantee, no ceiling but the link, and no privilege
    of class, so that without a reservation nobody is protected or cut off.
    """
    if reservation is None:
        return QueueRates(LEAST_RATE_KBPS, cell.down_kbps, max(PRIORITY.values()))
    least = max(reservation.min_kbps, LEAST_RATE_KBPS)
    # A ceiling above the link (no meter, in effect) is the link for the queue.
    ceiling_kbps = min(max(reservation.max_kbps, least), cell.down_kbps)
    return QueueRates(least, ceiling_kbps, PRIORITY[key[1]])


def _share(key: PairKey, share_kbps: int, link_kbps: int) -> QueueRates:
    least = max(share_kbps, LEAST_RATE_KBPS)
    shaped = key[1] is TrafficClass.REAL_TIME
    return QueueRates(least, least if shaped else link_kbps, PRIORITY[key[1]])
