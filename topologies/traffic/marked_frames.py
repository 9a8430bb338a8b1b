"""Frames that are known wherever they arrive: each ends in a mark and its attempt's number
(a few carry them where their format has room). Pure: addresses in, frames out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.contracts.addressing import GATEWAY_MAC, ipv6_of

MARK = 0x686F6C6E
PORT = 9
"""Discard: nobody listens, whoever gets a datagram says so to its sender only."""


@dataclass(frozen=True)
class Ends:
    """Attacker and victim as frames see them; all addresses IPv4, their twins follow."""

    mac: str
    own_ip: str
    own_service_ip: str
    own_slice_id: int
    victim_mac: str
    foreign_ip: str
    foreign_service_ip: str
    foreign_slice_id: int
    foreign_dscp: int


def always(_: bytes) -> bool:
    return True


def never(_: bytes) -> bool:
    return False


@dataclass(frozen=True)
class Attempt:
    """One kind of crossing. `crossed` judges an arrived frame (untagged, from Ethernet on)."""

    name: str
    frames: tuple[bytes, ...]
    crossed: Callable[[bytes], bool]

    @property
    def crosses_if_carried(self) -> bool:
        """Carried unchanged, is it a crossing? Not what is lawful, sent to see that nothing
        breaks, or would need a host that forwards."""
        return any(self.crossed(frame) for frame in self.frames)


@dataclass
class Marker:
    """Numbers the attempts."""

    number: int = 0

    def mark(self) -> bytes:
        return struct.pack("!IH", MARK, self.number) + bytes(18)

    def attempt(
        self, name: str, *frames: Packet, crossed: Callable[[bytes], bool] = always
    ) -> Attempt:
        made = tuple(bytes(frame / Raw(self.mark())) for frame in frames)
        return self.exactly(name, *made, crossed=crossed)

    def exactly(
        self, name: str, *frames: bytes, crossed: Callable[[bytes], bool] = always
    ) -> Attempt:
        """Frames that hold the mark already."""
        self.number += 1
        return Attempt(name, frames, crossed)


@dataclass(frozen=True)
class FrameMaker:
    """Frames of one IP version between the attempt's ends."""

    ends: Ends
    version: int
    marker: Marker = field(compare=False)

    @property
    def suffix(self) -> str:
        return "" if self.version == 4 else " IPv6"

    def ip(self, source: str, destination: str, dscp: int = 0, **fields: Any) -> Packet:
        if self.version == 4:
            return IP(src=source, dst=destination, tos=dscp << 2, **fields)
        return IPv6(src=ipv6_of(source), dst=ipv6_of(destination), tc=dscp << 2, **fields)

    def to_gateway(self, ip: Packet, payload: Packet | None = None) -> Packet:
        return Ether(src=self.ends.mac, dst=GATEWAY_MAC) / ip / (payload or udp())

    def attempt(
        self, name: str, *frames: Packet, crossed: Callable[[bytes], bool] = always
    ) -> Attempt:
        return self.marker.attempt(name + self.suffix, *frames, crossed=crossed)

    def keeps_forged_dscp(self, frame: bytes) -> bool:
        at = struct.unpack_from("!H", frame, 14)[0]
        dscp = (at & 0xFF) >> 2 if self.version == 4 else at >> 6 & 0x3F
        return bool(dscp == self.ends.foreign_dscp)


def udp() -> Packet:
    return UDP(sport=PORT, dport=PORT)


def sent_to(m: FrameMaker, ip: str) -> Callable[[bytes], bool]:
    whom = bytes(m.ip(ip, ip))[-8:][-4:] if m.version == 4 else bytes(m.ip(ip, ip))[-16:]
    start = 30 if m.version == 4 else 38
    return lambda frame: frame[start : start + len(whom)] == whom
