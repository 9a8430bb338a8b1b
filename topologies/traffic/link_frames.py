"""Attempts below and beside IP: broadcast, multicast, ARP, neighbour discovery, DHCP, LLDP."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from controller.contracts.addressing import GATEWAY_IP, GATEWAY_IPV6, GATEWAY_MAC, ipv6_of
from topologies.traffic.marked_frames import (
    MARK,
    Attempt,
    Ends,
    Marker,
    udp,
)

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_ALL_NODES = "33:33:00:00:00:01"
_MDNS = "01:00:5e:00:00:fb"
_LLDP_MULTICAST, _LLDP = "01:80:c2:00:00:0e", 0x88CC
_BPDU_MULTICAST = "01:80:c2:00:00:00"


def link_layer(e: Ends, marker: Marker) -> Iterator[Attempt]:
    to_victim, to_all = Ether(src=e.mac, dst=e.victim_mac), Ether(src=e.mac, dst=_BROADCAST)
    claim = ARP(op=2, hwsrc=e.mac, psrc=GATEWAY_IP, hwdst=e.victim_mac, pdst=e.foreign_ip)
    yield marker.attempt("ARP reply as the gateway", to_victim / claim)
    gratuitous = ARP(op=1, hwsrc=e.mac, psrc=e.foreign_ip, pdst=e.foreign_ip)
    yield marker.attempt("ARP announcing the victim's address", to_all / gratuitous)
    scan = ARP(op=1, hwsrc=e.mac, psrc=e.own_ip, pdst=e.foreign_ip)
    yield marker.attempt("ARP request for a user", to_all / scan)
    lan = IP(src=e.own_ip, dst="255.255.255.255") / udp()
    yield marker.attempt("Ethernet broadcast", to_all / lan)
    prefix_broadcast = IP(src=e.own_ip, dst=f"10.{e.foreign_slice_id}.255.255") / udp()
    yield marker.attempt("prefix broadcast", to_all / prefix_broadcast)
    own_broadcast = IP(src=e.own_ip, dst=f"10.{e.own_slice_id}.255.255") / udp()
    yield marker.attempt("broadcast in the own prefix", to_all / own_broadcast)
    group = Ether(src=e.mac, dst=_MDNS) / IP(src=e.own_ip, dst="224.0.0.251") / udp()
    yield marker.attempt("IPv4 multicast", group)
    group_ipv6 = Ether(src=e.mac, dst=_ALL_NODES)
    for source in (ipv6_of(e.own_ip), "fe80::1"):
        ip = IPv6(src=source, dst="ff02::1") / udp()
        yield marker.attempt(f"IPv6 multicast from {source}", group_ipv6 / ip)
    link_local = IPv6(src="fe80::2", dst="fe80::3") / udp()
    yield marker.attempt("IPv6 link-local to the victim's MAC", to_victim / link_local)
    yield marker.attempt("an unknown ethertype", Ether(src=e.mac, dst=e.victim_mac, type=0x88B5))


def neighbour_discovery(e: Ends, marker: Marker) -> Iterator[Attempt]:
    own, foreign, service = ipv6_of(e.own_ip), ipv6_of(e.foreign_ip), ipv6_of(e.own_service_ip)
    source, target = ICMPv6NDOptSrcLLAddr(lladdr=e.mac), ICMPv6NDOptDstLLAddr(lladdr=e.mac)
    as_gateway = ICMPv6ND_NA(tgt=GATEWAY_IPV6, R=1, S=0, O=1) / target
    kinds = {
        "neighbour advertisement": as_gateway,
        "neighbour solicitation": ICMPv6ND_NS(tgt=foreign) / source,
        "router advertisement": ICMPv6ND_RA(routerlifetime=1800) / source,
        "router solicitation": ICMPv6ND_RS() / source,
        "redirect": ICMPv6ND_Redirect(tgt=own, dst=service) / target,
        "multicast listener report": ICMPv6MLReport2(),
    }
    to_victim = Ether(src=e.mac, dst=e.victim_mac)
    to_all, to_gateway = Ether(src=e.mac, dst=_ALL_NODES), Ether(src=e.mac, dst=GATEWAY_MAC)
    for name, message in kinds.items():
        forged = to_victim / IPv6(src=GATEWAY_IPV6, dst=foreign, hlim=255) / message
        yield marker.attempt(f"{name} as the gateway", forged)
        everybody = to_all / IPv6(src="fe80::2", dst="ff02::1", hlim=255) / message
        yield marker.attempt(f"{name} to all", everybody)
        within = to_gateway / IPv6(src=own, dst=service, hlim=255) / message
        yield marker.attempt(f"{name} within the slice", within)


def network_services(e: Ends, marker: Marker) -> Iterator[Attempt]:
    """What hosts must not offer or ask: addresses, topology."""

    def bootp(op: int) -> bytes:
        """The mark is its transaction id, the number its seconds."""
        head = struct.pack("!4BIH", op, 1, 6, 0, MARK, marker.number)
        return head + bytes(226) + b"\x63\x82\x53\x63" + bytes([53, 1, op, 255])

    to_all = Ether(src=e.mac, dst=_BROADCAST)
    discover = to_all / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    yield marker.exactly("DHCP discover", bytes(discover / Raw(bootp(1))))
    offer = Ether(src=e.mac, dst=e.victim_mac) / IP(src=e.own_ip, dst=e.foreign_ip)
    yield marker.exactly(
        "DHCP offer to the victim", bytes(offer / UDP(sport=67, dport=68) / Raw(bootp(2)))
    )
    chassis = struct.pack("!HBIH", 1 << 9 | 7, 4, MARK, marker.number)
    rest = struct.pack("!HB4sHHH", 2 << 9 | 5, 7, b"port", 3 << 9 | 2, 120, 0)
    lldp = Ether(src=e.mac, dst=_LLDP_MULTICAST, type=_LLDP)
    yield marker.exactly("LLDP", bytes(lldp / Raw(chassis + rest)))
    bpdu = Ether(src=e.mac, dst=_BPDU_MULTICAST, type=0x0027)
    yield marker.attempt("spanning tree", bpdu / Raw(b"\x42\x42\x03" + bytes(35)))
