"""All attempts to cross slices: what a user in full control of its host can send."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from controller.contracts.addressing import CENTRE_IP, GATEWAY_MAC
from topologies.traffic.link_frames import link_layer, neighbour_discovery, network_services
from topologies.traffic.malformed_frames import malformed_ipv4, malformed_ipv6
from topologies.traffic.marked_frames import (
    MARK,
    PORT,
    Attempt,
    Ends,
    FrameMaker,
    Marker,
    never,
    sent_to,
    udp,
)

LAWFUL = ("legitimate", "legitimate IPv6")
"""Must arrive: without them, silence would prove nothing."""

_MORE_FRAGMENTS = 1
_DATAGRAM_BYTES = 64


def attempts_between(ends: Ends) -> list[Attempt]:
    """All attempts, marked; index = attempt number."""
    marker = Marker()
    makers = [FrameMaker(ends, version, marker) for version in (4, 6)]
    made = [
        *(m.attempt("legitimate", _lawful(m), crossed=never) for m in makers),
        *(a for m in makers for kind in _EACH_VERSION for a in kind(m)),
        *malformed_ipv4(makers[0]),
        *malformed_ipv6(makers[1]),
        *link_layer(ends, marker),
        *neighbour_discovery(ends, marker),
        *network_services(ends, marker),
    ]
    _require_marks(made)
    return made


def _require_marks(attempts: list[Attempt]) -> None:
    """A frame that lost its mark could cross unseen. Raises ValueError."""
    for number, attempt in enumerate(attempts):
        mark = struct.pack("!IH", MARK, number)
        if any(mark not in frame for frame in attempt.frames):
            raise ValueError(f"attempt {number} ({attempt.name}) lost its mark")


def _lawful(m: FrameMaker) -> Packet:
    return m.to_gateway(m.ip(m.ends.own_ip, m.ends.own_service_ip))


def _addresses(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    yield m.attempt("user of another slice", m.to_gateway(m.ip(e.own_ip, e.foreign_ip)))
    yield m.attempt("service of another slice", m.to_gateway(m.ip(e.own_ip, e.foreign_service_ip)))
    yield m.attempt("infrastructure", m.to_gateway(m.ip(e.own_ip, CENTRE_IP)))
    spoofed = m.ip(e.foreign_ip, e.foreign_service_ip)
    yield m.attempt(
        "spoofed source to user", m.to_gateway(m.ip(e.foreign_service_ip, e.foreign_ip))
    )
    yield m.attempt("spoofed source to service", m.to_gateway(spoofed))
    as_victim = Ether(src=e.victim_mac, dst=GATEWAY_MAC)
    yield m.attempt("spoofed source and MAC", as_victim / spoofed / udp())
    lawful = m.ip(e.own_ip, e.own_service_ip)
    yield m.attempt("spoofed MAC, own address", as_victim / lawful / udp())
    as_gateway = Ether(src=GATEWAY_MAC, dst=e.victim_mac)
    yield m.attempt(
        "frame as the gateway", as_gateway / m.ip(e.foreign_service_ip, e.foreign_ip) / udp()
    )
    to_victim = Ether(src=e.mac, dst=e.victim_mac) / m.ip(e.own_ip, e.foreign_ip) / udp()
    yield m.attempt("victim's MAC as destination", to_victim)


def _transports(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    across = m.ip(e.own_ip, e.foreign_service_ip)
    yield m.attempt("TCP across", m.to_gateway(across, TCP(sport=PORT, dport=PORT, flags="S")))
    echo = ICMP() if m.version == 4 else ICMPv6EchoRequest()
    yield m.attempt("echo across", m.to_gateway(across, echo))


def _forged_dscp(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    within = m.ip(e.own_ip, e.own_service_ip, dscp=e.foreign_dscp)
    yield m.attempt("forged DSCP", m.to_gateway(within), crossed=m.keeps_forged_dscp)
    across = m.ip(e.own_ip, e.foreign_service_ip, dscp=e.foreign_dscp)
    yield m.attempt("forged DSCP across", m.to_gateway(across))


def _tags(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    ether = Ether(src=e.mac, dst=GATEWAY_MAC)
    across, within = m.ip(e.own_ip, e.foreign_ip), m.ip(e.own_ip, e.own_service_ip)
    inner, outer = Dot1Q(vlan=e.foreign_slice_id), Dot1Q(vlan=e.own_slice_id)
    yield m.attempt("VLAN tag", ether / inner / across / udp())
    yield m.attempt("VLAN tag within the slice", ether / outer / within / udp())
    yield m.attempt("priority tag", ether / Dot1Q(vlan=0, prio=7) / within / udp())
    yield m.attempt("double VLAN tag", ether / outer / inner / across / udp())
    service_tag = Dot1AD(vlan=e.own_slice_id)
    yield m.attempt("service and customer VLAN tag", ether / service_tag / inner / across / udp())


def _fragments(m: FrameMaker) -> Iterator[Attempt]:
    e = m.ends
    first, last = (
        _fragment(m, e.foreign_service_ip, 0, True),
        _fragment(m, e.foreign_service_ip, _DATAGRAM_BYTES, False),
    )
    yield m.attempt("fragments across", first, last)
    yield m.attempt("last fragment alone across", last)
    lawful_first = _fragment(m, e.own_service_ip, 0, True)
    yield m.attempt("first fragment within, last across", lawful_first, last,
                    crossed=sent_to(m, e.foreign_service_ip))  # fmt: skip
    overlapping = _fragment(m, e.foreign_service_ip, 8, False)
    yield m.attempt("overlapping fragments across", first, overlapping)
    yield m.attempt(
        "overlapping fragments within", lawful_first, _fragment(m, e.own_service_ip, 8, False),
        crossed=never,
    )  # fmt: skip


_EACH_VERSION = (_addresses, _transports, _forged_dscp, _tags, _fragments)


def _fragment(m: FrameMaker, destination: str, offset_bytes: int, more: bool) -> Packet:
    """One fragment; the first begins with the UDP header."""
    own, units = m.ends.own_ip, offset_bytes // 8
    if m.version == 4:
        flags = _MORE_FRAGMENTS if more else 0
        ip: Packet = IP(src=own, dst=destination, id=77, flags=flags, frag=units, proto=17)
    else:
        ip = m.ip(own, destination) / IPv6ExtHdrFragment(nh=17, id=77, offset=units, m=int(more))
    head = UDP(sport=PORT, dport=PORT, len=2 * _DATAGRAM_BYTES, chksum=0) if more else Raw(bytes(8))
    return Ether(src=m.ends.mac, dst=GATEWAY_MAC) / ip / head
