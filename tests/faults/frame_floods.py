"""Floods of frames from a host's interface, and the packets that a switch hands its controller."""

from __future__ import annotations

import random
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from controller.contracts.addressing import GATEWAY_MAC, ipv6_of
from controller.contracts.inventory import Host
from topologies.namespaces import socket_in

FRAMES = 2000
"""Templates of a flood; sent in turn, as fast as they go."""


def blast(
    netns_path: str,
    interface: str,
    frames: list[bytes],
    duration_s: float,
    varied_at: Callable[[bytes], int | None] | None = None,
) -> int:
    """How many frames went out; no two alike where `varied_at` says which four bytes change."""
    templates = [(bytearray(frame), varied_at and varied_at(frame)) for frame in frames]
    sent = 0
    with socket_in(netns_path, socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        until_s = time.monotonic() + duration_s
        while time.monotonic() < until_s:
            for frame, at in templates[sent % len(templates) :][:64]:
                if at is not None:
                    struct.pack_into("!I", frame, at, sent)
                raw.send(frame)
                sent += 1
    return sent


def in_source_mac(frame: bytes) -> int:
    return 8


def in_ipv6_destination(frame: bytes) -> int | None:
    """IPv4 ones stay as drawn: their prefixes matter, and are 65,536 already."""
    return 50 if frame[12:14] == b"\x86\xdd" else None


def _ip4(chance: random.Random, slice_id: int | None = None) -> str:
    second = chance.randrange(256) if slice_id is None else slice_id
    return f"10.{second}.{chance.randrange(256)}.{chance.randrange(256)}"


def _mac(chance: random.Random) -> str:
    return "02:" + ":".join(f"{chance.randrange(256):02x}" for _ in range(5))


def _ip(chance: random.Random, source: str, destination: str) -> Packet:
    datagram = UDP(sport=chance.randrange(1, 65_536), dport=chance.randrange(1, 65_536))
    if chance.random() < 0.5:
        return IP(src=source, dst=destination) / datagram
    return IPv6(src=ipv6_of(source), dst=ipv6_of(destination)) / datagram


def random_sources(host: Host, own_ip: str, chance: random.Random) -> Packet:
    """Each frame from another MAC address and another user."""
    ip = _ip(chance, _ip4(chance), own_ip)
    return Ether(src=_mac(chance), dst=GATEWAY_MAC) / ip


def random_destinations(host: Host, own_ip: str, chance: random.Random) -> Packet:
    """From its own address to everywhere, half of it in its own slice."""
    slice_id = int(own_ip.split(".")[1]) if chance.random() < 0.5 else None
    return Ether(src=host.mac, dst=_mac(chance)) / _ip(chance, own_ip, _ip4(chance, slice_id))


def storm(host: Host, own_ip: str, chance: random.Random) -> Packet:
    """Broadcast and multicast of all kinds."""
    kinds: list[Packet] = [
        Ether(src=host.mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src=own_ip, dst="255.255.255.255")
        / UDP(),
        Ether(src=host.mac, dst="ff:ff:ff:ff:ff:ff")
        / ARP(hwsrc=host.mac, psrc=own_ip, pdst=_ip4(chance)),
        Ether(src=host.mac, dst="01:00:5e:00:00:fb") / IP(src=own_ip, dst="224.0.0.251") / UDP(),
        Ether(src=host.mac, dst="33:33:00:00:00:01")
        / IPv6(src=ipv6_of(own_ip), dst="ff02::1")
        / ICMPv6ND_NS(tgt=ipv6_of(_ip4(chance))),
    ]
    return chance.choice(kinds)


def malformed(host: Host, own_ip: str, chance: random.Random) -> Packet:
    """Random bytes behind a lawful Ethernet header, or a lawful packet with bits turned."""
    eth_type = chance.choice((0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x8847, 0x894F, 0x88CC))
    if chance.random() < 0.5:
        noise = Raw(chance.randbytes(chance.randrange(1, 120)))
        return Ether(src=host.mac, dst=GATEWAY_MAC, type=eth_type) / noise
    frame = bytearray(bytes(random_destinations(host, own_ip, chance)))
    for _ in range(4):
        frame[chance.randrange(12, len(frame))] ^= 1 << chance.randrange(8)
    return Raw(bytes(frame[: chance.randrange(20, len(frame))]))


Kind = Callable[[Host, str, random.Random], Packet]
Varied = Callable[[bytes], int | None] | None
FLOODS: dict[str, tuple[Kind, Varied]] = {
    "random sources": (random_sources, in_source_mac),
    "random destinations": (random_destinations, in_ipv6_destination),
    "broadcast and multicast storm": (storm, None),
    "malformed": (malformed, None),
}


def frames_of(kind: Kind, host: Host, own_ip: str, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [bytes(kind(host, own_ip, chance)) for _ in range(FRAMES)]


class PacketIns:
    """Counts what each bridge sends to a controller connected beside the real one."""

    def __init__(self, bridges: dict[str, str], folder: Path) -> None:
        self._logs = {name: folder / f"packet-ins-{name}.log" for name in bridges}
        self._monitors = []
        for name, bridge in bridges.items():
            command = ["ovs-ofctl", "-O", "OpenFlow13", "monitor", bridge, "128"]
            with self._logs[name].open("wb") as log:
                self._monitors.append(
                    subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
                )

    def count(self) -> int:
        return sum(log.read_text().count("PACKET_IN") for log in self._logs.values())

    def stop(self) -> None:
        for monitor in self._monitors:
            monitor.terminate()
            monitor.wait()


@contextmanager
def packet_ins(bridges: dict[str, str], folder: Path) -> Iterator[PacketIns]:
    watching = PacketIns(bridges, folder)
    try:
        yield watching
    finally:
        watching.stop()


def megaflows(upcall_show: str) -> tuple[int, int]:
    """(current, limit) in the output of `ovs-appctl upcall/show`."""
    found = re.search(r"\(current (\d+)\).*\(limit (\d+)\)", upcall_show)
    if found is None:
        raise ValueError(upcall_show)
    return int(found[1]), int(found[2])


def tagged(host: Host) -> bytes:
    """A frame that only the test's own rule takes."""
    header = bytes.fromhex(f"{GATEWAY_MAC}{host.mac}".replace(":", ""))
    return header + struct.pack("!HHH", 0x8100, 99, 0x88B5) + bytes(46)
