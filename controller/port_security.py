"""Tables 0 and 1: what a host's port lets in, and which slice and class a packet gets.

A host's port passes its own MAC with its own addresses and nothing else; a user
may use slice 0 only to report to its collector.  The gateway's ARP answer is a
constant per (port, own address): requests for anybody else find no rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.contracts.addressing import (
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
    GATEWAY_IP,
    GATEWAY_MAC,
    slice_prefix,
)
from controller.contracts.inventory import Host, Port, PortRole
from controller.contracts.slices import INFRASTRUCTURE_SLICE_ID, TrafficClass, dscp_of
from controller.network_view import LocalAddress, Network
from controller.pipeline import (
    ARP,
    CLASSIFY,
    DSCP_MASK,
    IPV4,
    ISOLATION,
    PORT_SECURITY,
    MatchFields,
    both,
    from_edge,
    matched,
    of_slice,
    pair,
    rule,
)
from controller.switch_program import IN_PORT, Flow, Kind

_UDP = 17
_ARP_REQUEST, _ARP_REPLY = 1, 2
_NO_UNICAST = ("224.0.0.0/240.0.0.0", "255.255.255.255")


def port_security(network: Network, switch: str) -> Iterator[Flow]:
    """Table 0."""
    for port in network.ports[switch]:
        if port.role is PortRole.INFRASTRUCTURE:
            yield from _trusted(port)
        else:
            yield from _guarded(network, port)


def _trusted(port: Port) -> Iterator[Flow]:
    match: MatchFields = {"in_port": port.port_no, "eth_type": IPV4}
    yield rule(PORT_SECURITY, 300, match, goto=CLASSIFY)
    yield rule(PORT_SECURITY, 100, {"in_port": port.port_no}, kind=Kind.UNSUPPORTED)


def _guarded(network: Network, port: Port) -> Iterator[Flow]:
    host = network.hosts[port.peer]
    own_mac: MatchFields = {"in_port": port.port_no, "eth_src": host.mac}
    for address in network.local_addresses[host.name]:
        yield _admitted(own_mac, address, host)
        yield _arp_answer(own_mac, address, host)
    of_port: MatchFields = {"in_port": port.port_no}
    for destination in _NO_UNICAST:
        match: MatchFields = {**of_port, "eth_type": IPV4, "ipv4_dst": destination}
        yield rule(PORT_SECURITY, 400, match, kind=Kind.UNSUPPORTED)
    for protocol in (IPV4, ARP):
        match = {**of_port, "eth_type": protocol}
        yield rule(PORT_SECURITY, 200, match, kind=Kind.SECURITY)
    yield rule(PORT_SECURITY, 100, of_port, kind=Kind.UNSUPPORTED)


def _admitted(own_mac: MatchFields, address: LocalAddress, host: Host) -> Flow:
    match = {**own_mac, "eth_type": IPV4, "ipv4_src": address.ip}
    if host.kind == "ue" and address.slice_id == INFRASTRUCTURE_SLICE_ID:
        match |= {"ipv4_dst": COLLECTOR_IP, "ip_proto": _UDP, "udp_dst": COLLECTOR_UDP_PORT}
    entered = both(from_edge(True), of_slice(address.slice_id))
    return rule(PORT_SECURITY, 300, match, write=entered, goto=CLASSIFY)


def _arp_answer(own_mac: MatchFields, address: LocalAddress, host: Host) -> Flow:
    match = {
        **own_mac,
        "eth_type": ARP,
        "arp_op": _ARP_REQUEST,
        "arp_sha": host.mac,
        "arp_spa": address.ip,
        "arp_tpa": GATEWAY_IP,
    }
    answer: MatchFields = {
        "eth_src": GATEWAY_MAC,
        "eth_dst": host.mac,
        "arp_op": _ARP_REPLY,
        "arp_sha": GATEWAY_MAC,
        "arp_tha": host.mac,
        "arp_spa": GATEWAY_IP,
        "arp_tpa": address.ip,
    }
    actions = [("set_field", name, value) for name, value in answer.items()]
    return rule(PORT_SECURITY, 300, match, actions=[*actions, ("output", IN_PORT)])


def classify(network: Network, switch: str) -> Iterator[Flow]:
    """Table 1."""
    hosts = [network.hosts[p.peer] for p in network.edge_ports(switch)]
    entering = {a.slice_id for h in hosts for a in network.local_addresses[h.name]}
    for slice_id in sorted(entering):
        yield from _at_edge(network, slice_id)
    if any(p.role is PortRole.INFRASTRUCTURE for p in network.ports[switch]):
        yield from _between_switches(network)


def _at_edge(network: Network, slice_id: int) -> Iterator[Flow]:
    entered = matched(both(from_edge(True), of_slice(slice_id)))
    services = network.services_of_slice.get(slice_id, ())
    for priority, side in ((300, "ipv4_dst"), (200, "ipv4_src")):
        for service in services:
            match: MatchFields = {"metadata": entered, "eth_type": IPV4, side: service.address}
            yield _entering(network, priority, match, slice_id, service.traffic_class)
    match = {"metadata": entered, "eth_type": IPV4}
    yield _entering(network, 100, match, slice_id, network.default_class(slice_id))


def _entering(
    network: Network,
    priority: int,
    match: MatchFields,
    slice_id: int,
    traffic_class: TrafficClass,
) -> Flow:
    """Writes the DSCP into packet and metadata. Without slicing the packet says 0."""
    dscp = dscp_of(slice_id, traffic_class) if network.inventory.slicing else 0
    return rule(
        CLASSIFY,
        priority,
        match,
        kind=Kind.ENTER,
        slice_id=slice_id,
        actions=[("set_field", "ip_dscp", dscp)],
        write=pair(slice_id, traffic_class),
        goto=ISOLATION,
    )


def _between_switches(network: Network) -> Iterator[Flow]:
    """By DSCP; without slicing no packet carries one, so by the sender's prefix."""
    base: MatchFields = {"metadata": matched(from_edge(False)), "eth_type": IPV4}
    if not network.inventory.slicing:
        for slice_id in network.slice_ids:
            first, _, _ = slice_prefix(slice_id).partition("/")
            match = {**base, "ipv4_src": f"{first}/255.255.0.0"}
            yield rule(CLASSIFY, 100, match, write=(slice_id << 2, DSCP_MASK), goto=ISOLATION)
        return
    for slice_id, traffic_class in network.all_pairs:
        code = pair(slice_id, traffic_class)
        yield rule(CLASSIFY, 100, {**base, "ip_dscp": code[0]}, write=code, goto=ISOLATION)
