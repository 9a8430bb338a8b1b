"""Table 4: which port a packet leaves by.

Access points know the users they carry and the servers on them; the rest they give to
the core, or to the air when it came from the core.  The core knows everybody; the
air knows one access point per user.  Traffic between users of a cell goes through its
access point.

No way of a user's ends in a drop because the user has gone: Open vSwitch would cache the
drop, and whoever came back within ten seconds would meet it until it was looked at again
(docs/decisions/0093-no-cached-drop-behind-a-user.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from controller.contracts.addressing import COLLECTOR_IP
from controller.contracts.inventory import Cell, Host, PortRole, SwitchRole
from controller.errors import NetworkDescriptionError
from controller.ip_versions import IP_VERSIONS
from controller.network_state import NetworkState
from controller.network_view import Network
from controller.pipeline import (
    EGRESS,
    EGRESS_SHIFT,
    FORWARD,
    MatchFields,
    egress,
    matched,
    of_slice,
    rule,
)
from controller.switch_program import NO_SLICE, Flow, Kind, SwitchProgram

_LATE = 200
"""Below a user's uplink, which is told by its port alone."""


def forward(network: Network, state: NetworkState, switch: str) -> Iterator[Flow]:
    """Table 4. Raises `NetworkDescriptionError` when a collector cannot be told from another."""
    role = network.switches[switch].role
    if role is SwitchRole.AIR:
        yield from _on_air(network, state)
        yield from _nowhere(network)
    elif role is SwitchRole.CORE:
        yield from _on_core(network, state)
        yield from _nowhere(network)
    else:
        for cell in network.cells_of_switch[switch]:
            yield from _on_access_point(network, state, cell)


def _nowhere(network: Network) -> Iterator[Flow]:
    """Misses by slice, so that the packet balance of a slice can account for them."""
    for slice_id in network.slice_ids:
        match: MatchFields = {"metadata": matched(of_slice(slice_id))}
        yield rule(FORWARD, 10, match, kind=Kind.MISS, slice_id=slice_id)


@lru_cache(maxsize=1 << 16)
def _to(
    ip: str,
    port_no: int,
    in_port: int | None = None,
    kind: Kind = Kind.PATH,
    slice_id: int = NO_SLICE,
) -> tuple[Flow, ...]:
    """To an address and its IPv6 twin. Most of what a change compiles was there before it."""
    came_by: MatchFields = {} if in_port is None else {"in_port": in_port}
    priority = 300 if in_port is None else 400
    write = egress(port_no)
    matches = [{**came_by, **version.sent_to(ip)} for version in IP_VERSIONS]
    return tuple(
        rule(FORWARD, priority, match, kind=kind, slice_id=slice_id, write=write, goto=EGRESS)
        for match in matches
    )


def _on_air(network: Network, state: NetworkState) -> Iterator[Flow]:
    """Uplink by the user's port; downlink counted from access points that may carry the user,
    passed on from any while the user has a radio link."""
    cells = network.cells
    for ue_id, attachment in state.attachments.items():
        user = network.users[ue_id]
        port_no = network.hosts[user.host].port_no
        if attachment.uplink is not None:
            up = egress(cells[attachment.uplink].air_port)
            yield rule(FORWARD, 300, {"in_port": port_no}, write=up, goto=EGRESS)
        for cell_id in sorted(attachment.accepted):
            for address in network.user_addresses(user):
                air_port = cells[cell_id].air_port
                yield from _to(address.ip, port_no, air_port, Kind.USER, address.slice_id)
        if attachment.accepted:
            for address in network.user_addresses(user):
                for version in IP_VERSIONS:
                    late, write = version.sent_to(address.ip), egress(port_no)
                    yield rule(FORWARD, _LATE, late, write=write, goto=EGRESS)
    sink = network.filler_sink()
    if sink is None:
        return
    for cell in cells.values():
        ip = network.filler_ip(cell.cell_id)
        if ip is None:
            continue
        yield from _to(ip, sink.port_no, cell.air_port)
        for version in IP_VERSIONS:
            match: MatchFields = {"in_port": sink.port_no, **version.sent_by(ip)}
            yield rule(FORWARD, 300, match, write=egress(cell.air_port), goto=EGRESS)


def _on_access_point(network: Network, state: NetworkState, cell: Cell) -> Iterator[Flow]:
    for ue_id, attachment in state.attachments.items():
        if cell.cell_id in attachment.carried:
            for address in network.user_addresses(network.users[ue_id]):
                yield from _to(address.ip, cell.down_port)
    filler_ip = network.filler_ip(cell.cell_id)
    if filler_ip is not None:
        yield from _to(filler_ip, cell.down_port)
    for host in _servers_on(network, cell.switch):
        yield from _to_server(network, state, host, host.port_no)
    yield from _collector_at_access_point(network, cell)
    yield from down_to_air(network, cell, cell.up_port)
    yield rule(FORWARD, 100, {}, write=egress(cell.up_port), goto=EGRESS)


def down_to_air(network: Network, cell: Cell, in_port: int) -> Iterator[Flow]:
    """What the core sent is for a user, known here or not, and must not go back to the core."""
    for slice_id in network.slice_ids:
        match: MatchFields = {"in_port": in_port, "metadata": matched(of_slice(slice_id))}
        yield rule(FORWARD, 200, match, write=egress(cell.down_port), goto=EGRESS)


def _on_core(network: Network, state: NetworkState) -> Iterator[Flow]:
    for ue_id, attachment in state.attachments.items():
        port_no = network.cells[attachment.downlink].core_port
        for address in network.user_addresses(network.users[ue_id]):
            yield from _to(address.ip, port_no)
    for cell in network.cells.values():
        filler_ip = network.filler_ip(cell.cell_id)
        if filler_ip is not None:
            yield from _to(filler_ip, cell.core_port)
        edge = network.hosts[cell.edge]
        yield from _to(COLLECTOR_IP, _core_port_to(network, edge), cell.core_port)
    for host in network.hosts.values():
        if network.switches[host.switch].role is not SwitchRole.AIR:
            yield from _to_server(network, state, host, _core_port_to(network, host))


def serving_cells(network: Network, core: SwitchProgram) -> dict[str, str]:
    """ue_id -> cell that the core's rules send it to: what a restarted controller finds."""
    cell_of_port = {c.core_port: c.cell_id for c in network.cells.values()}
    found = {}
    for user in network.users.values():
        rule_now = core.flows.get(_to(user.infrastructure_ip, 0)[0].key)
        if rule_now is not None and rule_now.metadata is not None:
            cell_id = cell_of_port.get(rule_now.metadata[0] >> EGRESS_SHIFT)
            if cell_id is not None:
                found[user.ue_id] = cell_id
    return found


def _servers_on(network: Network, switch: str) -> list[Host]:
    ports = [p for p in network.ports[switch] if p.role is PortRole.SERVER]
    return [network.hosts[p.peer] for p in ports]


def _to_server(network: Network, state: NetworkState, host: Host, port_no: int) -> Iterator[Flow]:
    """Own addresses, and the services it serves now (not those it only may serve)."""
    for address in host.addresses:
        yield from _to(address.ip, port_no)
    for service in network.services_of_host.get(host.name, ()):
        if state.service_host(service) == host.name:
            yield from _to(service.address, port_no)


def _core_port_to(network: Network, host: Host) -> int:
    if host.switch == network.core:
        return host.port_no
    return network.cells_of_switch[host.switch][0].core_port


def _collector_at_access_point(network: Network, cell: Cell) -> Iterator[Flow]:
    """The anycast address means this cell's edge from the air, another cell's from the core."""
    own = network.hosts[cell.edge]
    if own.switch == cell.switch:
        yield from _to(COLLECTOR_IP, own.port_no, cell.down_port)
    from_elsewhere = {
        c.edge
        for c in network.cells.values()
        if c.switch != cell.switch and network.hosts[c.edge].switch == cell.switch
    }
    if len(from_elsewhere) > 1:
        raise NetworkDescriptionError(
            f"switch {cell.switch}: edges {', '.join(sorted(from_elsewhere))} both collect for "
            "other cells; give those cells one edge, or put the edges on different switches"
        )
    for name in from_elsewhere:
        yield from _to(COLLECTOR_IP, network.hosts[name].port_no, cell.up_port)
