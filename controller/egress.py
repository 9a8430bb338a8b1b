"""Table 5: what happens to a packet at the port it leaves by.

Towards switches: the slice's meter where the port leads to or over a cell's radio
link, the queue where the port has a rate.  Towards hosts: the last hop's MAC
addresses, and the delivery counter.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.contracts.addressing import GATEWAY_MAC
from controller.contracts.inventory import Cell, Host, Port, PortRole, SwitchRole
from controller.contracts.slices import dscp_of, queue_of
from controller.failover import exceptions, output_to
from controller.metering import slice_meter_id
from controller.network_state import PairKey
from controller.network_view import Network
from controller.pipeline import (
    EGRESS,
    MatchFields,
    Register,
    both,
    egress,
    matched,
    of_slice,
    pair,
    rule,
)
from controller.switch_program import IN_PORT, Action, Direction, Flow, Kind

Radio = tuple[Cell, Direction]
"""A cell's radio link, one way."""


def egress_rules(network: Network, switch: str) -> Iterator[Flow]:
    """Table 5."""
    for port in network.ports[switch]:
        if port.role is PortRole.INFRASTRUCTURE:
            yield from _towards_switch(network, port)
        else:
            yield from _towards_host(network, port)


def _towards_switch(network: Network, port: Port) -> Iterator[Flow]:
    radio = _radio(network, port)
    yield from _by_pair(
        network, port, radio, 100, {}, output_to(network, port.switch, port.port_no)
    )
    for in_port, output in exceptions(network, port.switch, port.port_no).items():
        yield from _by_pair(network, port, radio, 200, {"in_port": in_port}, output)
    came_from_here: MatchFields = {"in_port": port.port_no}
    between_users = radio is not None and radio[1] is Direction.DOWN
    if between_users or network.switches[port.switch].role is SwitchRole.CORE:
        # Between two users of the cell, metered and queued like the rest; at the core, what a
        # server had sent before its access point knew that the user is coming there.
        yield from _by_pair(network, port, radio, 200, came_from_here, ("output", IN_PORT))
    else:
        # Otherwise a path that leads back is a mistake; OVS would drop it uncounted.
        match = {**came_from_here, "metadata": matched(egress(port.port_no))}
        yield rule(EGRESS, 200, match, kind=Kind.MISS)


def _radio(network: Network, port: Port) -> Radio | None:
    """The radio link behind a port: the air behind a cell's port, the cell behind the air's."""
    for cell in network.cells_of_switch[port.switch]:
        if cell.down_port == port.port_no:
            return cell, Direction.DOWN
    if network.switches[port.switch].role is SwitchRole.AIR:
        for cell in network.cells.values():
            if cell.air_port == port.port_no:
                return cell, Direction.UP
    return None


def _by_pair(
    network: Network,
    port: Port,
    radio: Radio | None,
    priority: int,
    match: MatchFields,
    output: Action,
) -> Iterator[Flow]:
    """One rule per pair where meters or queues tell them apart, one for all elsewhere.

    What a cell does not cover is dropped before its radio link, and counted.
    """
    apart = radio is not None or port.rate_kbps is not None
    if not (apart and network.inventory.slicing):
        here: MatchFields = {**match, "metadata": matched(egress(port.port_no))}
        yield rule(EGRESS, priority, here, actions=[output])
        return
    for key in network.all_pairs:
        here = {**match, "metadata": matched(both(egress(port.port_no), pair(*key)))}
        if radio is not None and not network.covers(radio[0].cell_id, key[0]):
            yield rule(EGRESS, priority, here, kind=Kind.MISS, slice_id=key[0])
            continue
        meter_id = None
        if radio is not None and key in network.pairs:
            meter_id = slice_meter_id(network, radio[0], key, radio[1])
        actions = [*_queue(port, key), output]
        yield rule(EGRESS, priority, here, actions=actions, meter_id=meter_id)


def _queue(port: Port, key: PairKey) -> list[Action]:
    return [] if port.rate_kbps is None else [("set_queue", queue_of(dscp_of(*key)))]


def _towards_host(network: Network, port: Port) -> Iterator[Flow]:
    """Only slices in which the host has an address; its port never moves, so these
    rules, and with them the delivery counters, live as long as the network."""
    host = network.hosts[port.peer]
    slice_ids = sorted({a.slice_id for a in network.local_addresses[host.name]})
    queued = port.rate_kbps is not None and network.inventory.slicing
    for slice_id in slice_ids:
        if not queued:
            yield _delivery(port, host, slice_id, of_slice(slice_id), [])
            continue
        for key in network.all_pairs:
            if key[0] == slice_id:
                yield _delivery(port, host, slice_id, pair(*key), _queue(port, key))


def _delivery(port: Port, host: Host, slice_id: int, which: Register, queue: list[Action]) -> Flow:
    return rule(
        EGRESS,
        100,
        {"metadata": matched(both(egress(port.port_no), which))},
        kind=Kind.DELIVER,
        slice_id=slice_id,
        actions=[
            ("set_field", "eth_src", GATEWAY_MAC),
            ("set_field", "eth_dst", host.mac),
            *queue,
            ("output", port.port_no),
        ],
    )
