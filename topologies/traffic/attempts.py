"""Attempts to cross slices: crafted frames from a user's namespace, watched for everywhere.

Each frame carries a mark and its attempt's number; a raw socket in every host lets
marked frames through and nothing else. What should not arrive and does is a leak.
One attempt is legitimate and must arrive: without it, silence would prove nothing.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from controller.contracts.addressing import CENTRE_IP, GATEWAY_IP, GATEWAY_MAC
from controller.contracts.inventory import Host, Inventory, Service, Session, User
from controller.contracts.slices import dscp_of
from topologies.namespaces import inside
from topologies.traffic.leaks import packet_socket
from topologies.traffic.packet_filter import (
    ACCEPT,
    ANCILLARY_PACKET_TYPE,
    DROP,
    LOAD_WORD,
    Instruction,
    if_equal,
)

MARK = 0x686F6C6E
LEGITIMATE = "legitimate"
_PACKET_OUTGOING = 4
_MARK_OFFSETS = (42, 46, 62)
"""After Ethernet + IPv4 + UDP or Ethernet + ARP; with a VLAN tag; with IPv6."""
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_PORT = 9
_GAP_S = 0.002
_LISTEN_S = 0.5


@dataclass(frozen=True)
class Attempt:
    """One kind of crossing. `crossed` judges an arrived frame (untagged, from Ethernet on)."""

    name: str
    frame: Packet
    crossed: Callable[[bytes], bool]


@dataclass(frozen=True)
class Crossing:
    sent: int
    arrived: int
    leaked: int
    at: tuple[str, ...]
    """Hosts at which leaked frames arrived."""


@dataclass(frozen=True)
class _Cast:
    """Attacker and its session, victim user and service of another slice."""

    attacker: User
    own: Session
    own_service: Service
    victim: User
    foreign: Session
    foreign_service: Service


def attempt_crossings(
    inventory: Inventory, count: int, attacker: str | None = None
) -> dict[str, Crossing]:
    """Send every attempt `count` times from the namespace of `attacker` (default: the first
    user that shares no slice with another) and say what arrived where.

    The network must be up. ValueError when no two users are in different slices.
    """
    cast = cast_of(inventory, attacker)
    attempts = attempts_of(cast, inventory)
    watchers = {h.name: packet_socket(h, _marked_program()) for h in inventory.hosts}
    try:
        _send(inventory.host(cast.attacker.host), attempts, count)
        arrived = _listen(watchers)
    finally:
        for watcher in watchers.values():
            watcher.close()
    return {
        attempt.name: _judged(attempt, count, arrived.get(number, []))
        for number, attempt in enumerate(attempts)
    }


def cast_of(inventory: Inventory, attacker: str | None) -> _Cast:
    """Who attacks whom."""
    for user in inventory.users:
        if attacker is not None and user.ue_id != attacker:
            continue
        own_ids = {s.slice_id for s in user.sessions}
        for victim in inventory.users:
            foreign = [s for s in victim.sessions if s.slice_id not in own_ids]
            own_service = _service_in(inventory, user.sessions[0].slice_id)
            if foreign and own_service:
                service = _service_in(inventory, foreign[0].slice_id)
                if service:
                    return _Cast(user, user.sessions[0], own_service, victim, foreign[0], service)
    raise ValueError("crossing slices needs two users in different slices that have services")


def attempts_of(cast: _Cast, inventory: Inventory) -> list[Attempt]:
    """All attempts, marked; index = attempt number."""
    made = [
        Attempt(name, frame / Raw(struct.pack("!IH", MARK, number) + bytes(18)), crossed)
        for number, (name, frame, crossed) in enumerate(_crafted(cast, inventory))
    ]
    return made


def _crafted(
    cast: _Cast, inventory: Inventory
) -> Iterator[tuple[str, Packet, Callable[[bytes], bool]]]:
    mac = inventory.host(cast.attacker.host).mac
    victim_mac = inventory.host(cast.victim.host).mac
    own, foreign = cast.own.ip, cast.foreign.ip
    own_service, foreign_service = cast.own_service.address, cast.foreign_service.address
    udp = UDP(sport=_PORT, dport=_PORT)
    to_gateway = Ether(src=mac, dst=GATEWAY_MAC)
    forged = dscp_of(cast.foreign.slice_id, cast.foreign_service.traffic_class)

    def always(_: bytes) -> bool:
        return True

    def never(_: bytes) -> bool:
        return False

    def keeps_forged_dscp(frame: bytes) -> bool:
        return frame[15] >> 2 == forged

    yield LEGITIMATE, to_gateway / IP(src=own, dst=own_service) / udp, never
    yield "user of another slice", to_gateway / IP(src=own, dst=foreign) / udp, always
    yield "service of another slice", to_gateway / IP(src=own, dst=foreign_service) / udp, always
    yield "infrastructure", to_gateway / IP(src=own, dst=CENTRE_IP) / udp, always
    yield "spoofed source to user", to_gateway / IP(src=foreign_service, dst=foreign) / udp, always
    yield (
        "spoofed source to service",
        to_gateway / IP(src=foreign, dst=foreign_service) / udp,
        always,
    )
    yield (
        "spoofed source and MAC",
        Ether(src=victim_mac, dst=GATEWAY_MAC) / IP(src=foreign, dst=foreign_service) / udp,
        always,
    )
    yield (
        "victim's MAC as destination",
        Ether(src=mac, dst=victim_mac) / IP(src=own, dst=foreign) / udp,
        always,
    )
    yield (
        "forged DSCP",
        to_gateway / IP(src=own, dst=own_service, tos=forged << 2) / udp,
        keeps_forged_dscp,
    )
    yield (
        "forged DSCP across",
        to_gateway / IP(src=own, dst=foreign_service, tos=forged << 2) / udp,
        always,
    )
    tagged = to_gateway / Dot1Q(vlan=cast.foreign.slice_id)
    yield "VLAN tag", tagged / IP(src=own, dst=foreign) / udp, always
    yield (
        "ARP reply as the gateway",
        Ether(src=mac, dst=victim_mac)
        / ARP(op=2, hwsrc=mac, psrc=GATEWAY_IP, hwdst=victim_mac, pdst=foreign),
        always,
    )
    yield (
        "ARP request for a user",
        Ether(src=mac, dst=_BROADCAST) / ARP(op=1, hwsrc=mac, psrc=own, pdst=foreign),
        always,
    )
    yield (
        "IPv6 multicast",
        Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src="fe80::1", dst="ff02::1") / udp,
        always,
    )
    yield (
        "IPv6 to the victim's MAC",
        Ether(src=mac, dst=victim_mac) / IPv6(src="fe80::1", dst="fe80::2") / udp,
        always,
    )
    yield (
        "Ethernet broadcast",
        Ether(src=mac, dst=_BROADCAST) / IP(src=own, dst="255.255.255.255") / udp,
        always,
    )
    prefix_broadcast = f"10.{cast.foreign.slice_id}.255.255"
    yield (
        "prefix broadcast",
        Ether(src=mac, dst=_BROADCAST) / IP(src=own, dst=prefix_broadcast) / udp,
        always,
    )


def _service_in(inventory: Inventory, slice_id: int) -> Service | None:
    return next((s for s in inventory.services if s.slice_id == slice_id), None)


def _marked_program() -> list[Instruction]:
    program: list[Instruction] = [
        (LOAD_WORD, 0, 0, ANCILLARY_PACKET_TYPE),
        *if_equal(_PACKET_OUTGOING, [DROP]),
    ]
    for offset in _MARK_OFFSETS:
        program += [(LOAD_WORD, 0, 0, offset), *if_equal(MARK, [ACCEPT])]
    return [*program, DROP]


def _send(host: Host, attempts: list[Attempt], count: int) -> None:
    with inside(host.netns_path):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw:
        raw.bind((host.interface, 0))
        frames = [bytes(attempt.frame) for attempt in attempts]
        for _ in range(count):
            for frame in frames:
                raw.send(frame)
            time.sleep(_GAP_S)


def _listen(watchers: dict[str, socket.socket]) -> dict[int, list[tuple[str, bytes]]]:
    """(host, frame) by attempt number, until nothing has arrived for a while."""
    arrived: dict[int, list[tuple[str, bytes]]] = {}
    quiet_until_s = time.monotonic() + _LISTEN_S
    while time.monotonic() < quiet_until_s:
        for name, watcher in watchers.items():
            try:
                frame = watcher.recv(256)
            except BlockingIOError:
                continue
            arrived.setdefault(_number_of(frame), []).append((name, frame))
            quiet_until_s = time.monotonic() + _LISTEN_S
        time.sleep(0.0005)
    return arrived


def _number_of(frame: bytes) -> int:
    mark = struct.pack("!I", MARK)
    at = next(o for o in _MARK_OFFSETS if frame[o : o + 4] == mark)
    return int.from_bytes(frame[at + 4 : at + 6], "big")


def _judged(attempt: Attempt, count: int, arrived: list[tuple[str, bytes]]) -> Crossing:
    leaked = [host for host, frame in arrived if attempt.crossed(frame)]
    return Crossing(count, len(arrived), len(leaked), tuple(sorted(set(leaked))))
