"""Tables 0 and 1: what a host's port lets in, and which slice and class a packet gets.

A host's port passes its own MAC with its own addresses and nothing else; a user
may use slice 0 only to report to its collector.  The gateway's ARP answer is a
constant per (port, own address): requests for anybody else find no rule.  IPv6 hosts
know the gateway from their configuration, so no neighbour discovery is let in at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from controller.contracts.addressing import (
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
    GATEWAY_IP,
    GATEWAY_MAC,
)
from controller.contracts.inventory import Host, Port, PortRole
from controller.contracts.slices import INFRASTRUCTURE_SLICE_ID, TrafficClass, dscp_of
from controller.ip_versions import IP_VERSIONS
from controller.network_view import LocalAddress, Network
from controller.pipeline import (
    ARP,
    CLASSIFY,
    DSCP_MASK,
    IPV4,
    IPV6,
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

_UDP, _ICMPV6 = 17, 58
_ARP_REQUEST, _ARP_REPLY = 1, 2
_NEIGHBOUR_DISCOVERY = (133, 134, 135, 136, 137)
_MULTICAST_LISTENER = (130, 131, 132, 143)
_ANY_TAG = "0x1000/0x1000"


def port_security(network: Network, switch: str) -> Iterator[Flow]:
    """Table 0."""
    for port in network.ports[switch]:
        if port.role is PortRole.INFRASTRUCTURE:
            yield from _trusted(port)
        else:
            yield from _guarded(network, port)
    yield from _refused()


def _trusted(port: Port) -> Iterator[Flow]:
    for version in IP_VERSIONS:
        match: MatchFields = {"in_port": port.port_no, **version.any}
        yield rule(PORT_SECURITY, 300, match, goto=CLASSIFY)


@cache
def _refused() -> tuple[Flow, ...]:
    """What no port may send. The same on every port, so it costs a switch the same
    number of rules however many ports it has."""
    return tuple(_refusals())


def _refusals() -> Iterator[Flow]:
    # Open vSwitch matches the type behind a tag: without this rule a tagged frame passes.
    yield rule(PORT_SECURITY, 600, {"vlan_vid": _ANY_TAG}, kind=Kind.UNSUPPORTED)
    icmpv6: MatchFields = {"eth_type": IPV6, "ip_proto": _ICMPV6}
    for types, kind in (
        (_NEIGHBOUR_DISCOVERY, Kind.SECURITY),
        (_MULTICAST_LISTENER, Kind.UNSUPPORTED),
    ):
        for icmpv6_type in types:
            yield rule(PORT_SECURITY, 500, {**icmpv6, "icmpv6_type": icmpv6_type}, kind=kind)
    for version in IP_VERSIONS:
        for destination in version.multicast:
            match: MatchFields = {**version.any, version.destination: destination}
            yield rule(PORT_SECURITY, 400, match, kind=Kind.UNSUPPORTED)
    for protocol in (IPV4, IPV6, ARP):
        yield rule(PORT_SECURITY, 200, {"eth_type": protocol}, kind=Kind.SECURITY)
    yield rule(PORT_SECURITY, 100, {}, kind=Kind.UNSUPPORTED)


def _guarded(network: Network, port: Port) -> Iterator[Flow]:
    host = network.hosts[port.peer]
    own_mac: MatchFields = {"in_port": port.port_no, "eth_src": host.mac}
    for address in network.local_addresses[host.name]:
        yield from _admitted(own_mac, address, host)
        yield _arp_answer(own_mac, address, host)


def _admitted(own_mac: MatchFields, address: LocalAddress, host: Host) -> Iterator[Flow]:
    entered = both(from_edge(True), of_slice(address.slice_id))
    for version in IP_VERSIONS:
        match = {**own_mac, **version.sent_by(address.ip)}
        if host.kind == "ue" and address.slice_id == INFRASTRUCTURE_SLICE_ID:
            # Open vSwitch shows no port of a fragment: reports must fit a frame.
            match |= version.sent_to(COLLECTOR_IP)
            match |= {"ip_proto": _UDP, "udp_dst": COLLECTOR_UDP_PORT}
        yield rule(PORT_SECURITY, 300, match, write=entered, goto=CLASSIFY)


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
    everywhere = _classes(network)
    for slice_id in sorted(entering):
        yield from everywhere.at_edge[slice_id]
    if any(p.role is PortRole.INFRASTRUCTURE for p in network.ports[switch]):
        yield from everywhere.between_switches


@dataclass(frozen=True)
class _Classes:
    """Rules of table 1, the same on every switch that has them; `at_edge` by slice."""

    at_edge: Mapping[int, tuple[Flow, ...]]
    between_switches: tuple[Flow, ...]


@lru_cache(maxsize=4)
def _classes(network: Network) -> _Classes:
    at_edge = {slice_id: tuple(_at_edge(network, slice_id)) for slice_id in network.slice_ids}
    return _Classes(at_edge, tuple(_between_switches(network)))


def _at_edge(network: Network, slice_id: int) -> Iterator[Flow]:
    entered = matched(both(from_edge(True), of_slice(slice_id)))
    services = network.services_of_slice.get(slice_id, ())
    for version in IP_VERSIONS:
        for service in services:
            for priority, end in (
                (300, version.sent_to(service.address)),
                (200, version.sent_by(service.address)),
            ):
                match: MatchFields = {"metadata": entered, **end}
                yield _entering(network, priority, match, slice_id, service.traffic_class)
        match = {"metadata": entered, **version.any}
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
    base: MatchFields = {"metadata": matched(from_edge(False))}
    for version in IP_VERSIONS:
        if not network.inventory.slicing:
            for slice_id in network.slice_ids:
                match = {**base, **version.sent_from_slice(slice_id)}
                yield rule(CLASSIFY, 100, match, write=(slice_id << 2, DSCP_MASK), goto=ISOLATION)
            continue
        for slice_id, traffic_class in network.all_pairs:
            code = pair(slice_id, traffic_class)
            match = {**base, **version.any, "ip_dscp": code[0]}
            yield rule(CLASSIFY, 100, match, write=code, goto=ISOLATION)
