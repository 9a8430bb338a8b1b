"""Leak detectors: frames that reached a host although they are none of its business.

A packet socket in each host's namespace sees every incoming frame; a classic BPF
program drops in the kernel what is the host's own, so that only leaks reach Python.
Own is: untagged IPv4 or IPv6 to one of the host's addresses from the same slice's prefix,
or the gateway's ARP reply about one of them, sent to the host's MAC. All else counts.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from controller.contracts.addressing import COLLECTOR_IP, GATEWAY_IP, ipv6_of, slice_prefix_ipv6
from controller.contracts.inventory import Address, Host, Inventory
from controller.contracts.slices import INFRASTRUCTURE_SLICE_ID
from topologies.namespaces import inside
from topologies.traffic.host_sockets import enlarge_receive_buffer
from topologies.traffic.packet_filter import (
    ACCEPT,
    ANCILLARY_PACKET_TYPE,
    ANCILLARY_VLAN_PRESENT,
    AND,
    DROP,
    JUMP,
    JUMP_EQUAL,
    LOAD_HALF,
    LOAD_WORD,
    Instruction,
    attach,
    if_equal,
    unless_equal,
)

_ETH_P_ALL = 3
_ETH_P_IP, _ETH_P_ARP, _ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
_PACKET_HOST, _PACKET_OUTGOING = 0, 4
_SLICE_MASK = 0xFFFF0000
_IPV6_SOURCE, _IPV6_DESTINATION = 22, 38
_IPV6_PREFIX = int(ipaddress.ip_address("fd48:6f6c::")) >> 96
"""First word of every IPv6 address of the plan; the second is slice id << 16."""
_KEPT_EXAMPLES = 20
_BUFFER_BYTES = 1024 * 1024
_SLICE_OF_WORD = {
    int(ipaddress.ip_network(slice_prefix_ipv6(s)).network_address) >> 64 & 0xFFFFFFFF: s
    for s in range(16)
}
UNKNOWN_SLICE = -1
"""Key of leaks whose frame names no slice (no source in the address plan)."""


def addresses_of(host: Host, inventory: Inventory) -> list[Address]:
    """All addresses of a host: its own, those of services it may serve, an edge's collector."""
    services = [
        Address(slice_id=s.slice_id, ip=s.address)
        for s in inventory.services
        if host.name == s.host or host.name in s.candidates
    ]
    collector = Address(slice_id=INFRASTRUCTURE_SLICE_ID, ip=COLLECTOR_IP)
    return [*host.addresses, *services, *([collector] if host.kind == "edge" else [])]


def leak_program(
    addresses: Sequence[Address], through: Sequence[Address] = ()
) -> list[Instruction]:
    """Accepts leaks, drops the host's own and outgoing frames. Frames start at Ethernet.

    `through`: services whose packets pass a network function in the host, both ways.
    """
    known = [(int(ipaddress.ip_address(a.ip)), a.slice_id) for a in addresses]
    passing = [(int(ipaddress.ip_address(a.ip)), a.slice_id) for a in through]
    gateway = int(ipaddress.ip_address(GATEWAY_IP))
    arp: list[Instruction] = [
        (LOAD_HALF, 0, 0, 20),
        *unless_equal(2, ACCEPT),
        (LOAD_WORD, 0, 0, 28),
        *unless_equal(gateway, ACCEPT),
        (LOAD_WORD, 0, 0, 38),
    ]
    for address, _ in known:
        arp += if_equal(address, [DROP])
    arp.append(ACCEPT)
    program: list[Instruction] = [
        (LOAD_WORD, 0, 0, ANCILLARY_PACKET_TYPE),
        *if_equal(_PACKET_OUTGOING, [DROP]),
        *unless_equal(_PACKET_HOST, ACCEPT),
        (LOAD_WORD, 0, 0, ANCILLARY_VLAN_PRESENT),
        *unless_equal(0, ACCEPT),
        (LOAD_HALF, 0, 0, 12),
        *_if_equal_far(_ETH_P_IPV6, _ipv6_program(addresses, through)),
        *_if_equal_far(_ETH_P_ARP, arp),
        *unless_equal(_ETH_P_IP, ACCEPT),
        (LOAD_WORD, 0, 0, 26),
    ]
    for address, slice_id in passing:
        to_own_slice: list[Instruction] = [
            (LOAD_WORD, 0, 0, 30),
            (AND, 0, 0, _SLICE_MASK),
            *if_equal(10 << 24 | slice_id << 16, [DROP]),
            ACCEPT,
        ]
        program += if_equal(address, to_own_slice)
    program.append((LOAD_WORD, 0, 0, 30))
    for address, slice_id in [*known, *passing]:
        from_own_slice: list[Instruction] = [
            (LOAD_WORD, 0, 0, 26),
            (AND, 0, 0, _SLICE_MASK),
            *if_equal(10 << 24 | slice_id << 16, [DROP]),
            ACCEPT,
        ]
        program += if_equal(address, from_own_slice)
    program.append(ACCEPT)
    return program


def _ipv6_program(addresses: Sequence[Address], through: Sequence[Address]) -> list[Instruction]:
    """Drops what is the host's own (or passes a function in it) of IPv6, accepts the rest."""
    program: list[Instruction] = []
    for first in (_IPV6_SOURCE, _IPV6_DESTINATION):
        program += [(LOAD_WORD, 0, 0, first), *unless_equal(_IPV6_PREFIX, ACCEPT)]
    for address in through:
        words = struct.unpack("!4I", ipaddress.ip_address(ipv6_of(address.ip)).packed)
        to_same_slice: list[Instruction] = [
            (LOAD_WORD, 0, 0, _IPV6_DESTINATION + 4),
            *if_equal(words[1], [DROP]),
            ACCEPT,
        ]
        from_slice = [(LOAD_WORD, 0, 0, _IPV6_SOURCE + 4), *if_equal(words[1], to_same_slice)]
        program += [(LOAD_WORD, 0, 0, _IPV6_SOURCE + 12), *if_equal(words[3], from_slice)]
    program += [(LOAD_WORD, 0, 0, _IPV6_DESTINATION + 8), *unless_equal(0, ACCEPT)]
    for address in [*addresses, *through]:
        words = struct.unpack("!4I", ipaddress.ip_address(ipv6_of(address.ip)).packed)
        same_slice: list[Instruction] = [
            (LOAD_WORD, 0, 0, _IPV6_SOURCE + 4),
            *if_equal(words[1], [DROP]),
            ACCEPT,
        ]
        of_slice = [(LOAD_WORD, 0, 0, _IPV6_DESTINATION + 4), *if_equal(words[1], same_slice)]
        program += [(LOAD_WORD, 0, 0, _IPV6_DESTINATION + 12), *if_equal(words[3], of_slice)]
    program.append(ACCEPT)
    return program


def _if_equal_far(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    """Like `if_equal` for any length: a conditional jump reaches 255 instructions only."""
    return [(JUMP_EQUAL, 1, 0, value), (JUMP, 0, 0, len(then)), *then]


def slice_of_frame(frame: bytes) -> int:
    """Slice id that a frame's source address names, else `UNKNOWN_SLICE`."""
    if len(frame) < 34:
        return UNKNOWN_SLICE
    (eth_type,) = struct.unpack_from("!H", frame, 12)
    if eth_type == _ETH_P_IP:
        return frame[27] if frame[26] == 10 else UNKNOWN_SLICE
    if eth_type == _ETH_P_IPV6 and len(frame) >= 54:
        prefix, second = struct.unpack_from("!2I", frame, _IPV6_SOURCE)
        if prefix == _IPV6_PREFIX:
            return _SLICE_OF_WORD.get(second, UNKNOWN_SLICE)
    return UNKNOWN_SLICE


@dataclass
class LeakDetector:
    """One host's packet socket and what came out of it."""

    host: str
    opened: socket.socket
    addresses: Sequence[Address]
    frames_by_slice: dict[int, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    """Hex of the first leaked frames, for finding out whose they were."""

    @classmethod
    def open(cls, host: Host, inventory: Inventory) -> LeakDetector:
        addresses = addresses_of(host, inventory)
        return cls(host.name, packet_socket(host, leak_program(addresses)), addresses)

    def expect(self, through: Sequence[Address]) -> None:
        """From now on packets of these services, and no others, pass a function in the host."""
        attach(self.opened, leak_program(self.addresses, through))

    def read(self) -> None:
        """Count what is waiting."""
        while True:
            try:
                frame = self.opened.recv(128)
            except BlockingIOError:
                return
            slice_id = slice_of_frame(frame)
            self.frames_by_slice[slice_id] = self.frames_by_slice.get(slice_id, 0) + 1
            if len(self.examples) < _KEPT_EXAMPLES:
                self.examples.append(frame[:64].hex())

    def clear(self) -> None:
        self.read()
        self.frames_by_slice.clear()
        self.examples.clear()


def packet_socket(host: Host, program: Sequence[Instruction]) -> socket.socket:
    """A non-blocking raw socket of the host's interface that sees what `program` accepts."""
    with inside(host.netns_path):
        # Protocol 0 receives nothing: the filter must be in place before the first frame.
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        enlarge_receive_buffer(opened, _BUFFER_BYTES)
        attach(opened, program)
        opened.bind((host.interface, _ETH_P_ALL))
    except OSError:
        opened.close()
        raise
    opened.setblocking(False)
    return opened
