"""Attempts with IP headers that are wrong, unusual or reach for the hosts' own forwarding."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, IPOption_LSRR, IPOption_RR
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)

from controller.contracts.addressing import GATEWAY_IP, ipv6_of
from topologies.traffic.marked_frames import (
    Attempt,
    FrameMaker,
    never,
    sent_to,
    udp,
)

_ICMP_REDIRECT = 5


def malformed_ipv4(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    for name, fields in (
        ("IPv4 longer than its frame", {"len": 9000}),
        ("IPv4 shorter than its header", {"len": 10}),
        ("IPv4 header too short", {"ihl": 2}),
        ("IPv4 header beyond its frame", {"ihl": 15}),
        ("IPv4 of version 7", {"version": 7}),
        ("IPv4 with a wrong checksum", {"chksum": 0xBEEF}),
        ("IPv4 at the end of its life", {"ttl": 0}),
    ):
        yield m.attempt(f"{name}, across", m.to_gateway(m.ip(e.own_ip, e.foreign_ip, **fields)))
        within = m.to_gateway(m.ip(e.own_ip, e.own_service_ip, **fields))
        yield m.attempt(f"{name}, within", within, crossed=never)
    route = IPOption_LSRR(routers=[e.foreign_ip])
    recorded = m.ip(e.own_ip, e.foreign_ip, options=[IPOption_RR()])
    yield m.attempt("IPv4 record route across", m.to_gateway(recorded))
    yield m.attempt(
        "IPv4 source route over the own service",
        m.to_gateway(m.ip(e.own_ip, e.own_service_ip, options=[route])),
        crossed=sent_to(m, e.foreign_ip),
    )
    redirect = ICMP(type=_ICMP_REDIRECT, code=1, gw=e.own_ip)
    about = m.ip(e.foreign_ip, e.foreign_service_ip) / udp()
    forged = m.to_gateway(IP(src=GATEWAY_IP, dst=e.foreign_ip), redirect / about)
    yield m.attempt("ICMP redirect as the gateway", forged)


def malformed_ipv6(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    across, within = m.ip(e.own_ip, e.foreign_ip), m.ip(e.own_ip, e.own_service_ip)
    for name, header in (
        ("hop-by-hop options", IPv6ExtHdrHopByHop()),
        ("destination options", IPv6ExtHdrDestOpt()),
        ("a chain of extension headers", IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
         / IPv6ExtHdrRouting(addresses=[]) / IPv6ExtHdrDestOpt()),
        ("an extension header beyond its frame", IPv6ExtHdrDestOpt(len=200)),
    ):  # fmt: skip
        yield m.marker.attempt(f"IPv6 with {name}, across", m.to_gateway(across, header / udp()))
        yield m.marker.attempt(
            f"IPv6 with {name}, within", m.to_gateway(within, header / udp()), crossed=never
        )
    for name, fields in (("longer", {"plen": 9000}), ("shorter", {"plen": 2})):
        ip = m.ip(e.own_ip, e.foreign_ip, **fields)
        yield m.marker.attempt(f"IPv6 {name} than its frame, across", m.to_gateway(ip))
    over = IPv6ExtHdrRouting(addresses=[ipv6_of(e.foreign_ip)])
    yield m.marker.attempt(
        "IPv6 routing header over the own service",
        m.to_gateway(within, over / udp()),
        crossed=sent_to(m, e.foreign_ip),
    )
