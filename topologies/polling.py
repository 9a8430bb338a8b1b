"""The order in which the userspace datapath looks at its ports, made that of packets on their way.

vswitchd's forwarding thread takes from one port after another, always in the same order, and
what it sends to a port behind that one it takes from there in the same round.  Where the order
is that of every path (hosts, access points from the air, core, access points from the core,
the air), a packet is through before the next is taken in: a path takes one round instead of up
to three, and when a handover leads the next packet another way it cannot overtake.

The order is that of a hash table of datapath port numbers (lib/hmap.h and lib/hash.h of Open
vSwitch; numbers are given from 1 on, in the order of creation), so ports are created in the order
that leads to it.  In an Open vSwitch that was built with another hash, or that started anew, the
order is any: everything arrives, some of it later.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from controller.contracts.inventory import Port, PortRole, Switch, SwitchRole

_WORD = 0xFFFFFFFF


def stage(port: Port, roles: dict[str, SwitchRole]) -> int:
    """How far on their way packets are that come in here; `roles` by switch name."""
    if port.role is not PortRole.INFRASTRUCTURE:
        return 0
    here, sender = roles[port.switch], roles[port.peer]
    if here is SwitchRole.AIR:
        return 5
    if sender is SwitchRole.AIR:
        return 1
    if here is SwitchRole.CORE:
        return 2
    return 4 if sender is SwitchRole.CORE else 3


def polling_order(count: int) -> list[int]:
    """Datapath port numbers 0 to count - 1, in the order in which they are looked at."""
    buckets: list[list[int]] = [[]]
    for number in range(count):
        _insert(buckets, number)
        held = number + 1
        if held // 2 >= len(buckets):
            larger: list[list[int]] = [[] for _ in range(_bucket_count(held))]
            for bucket in buckets:
                for moved in bucket:
                    _insert(larger, moved)
            buckets = larger
    return [number for bucket in buckets for number in bucket]


def creation_batches(ports: Sequence[Port], switches: Sequence[Switch]) -> list[list[Port]]:
    """All ports, in groups to be created one after the other; within a group order is of no
    matter. The bridges exist and nothing else: the datapath's own port and theirs come first."""
    roles = {switch.name: switch.role for switch in switches}
    first = 1 + len(switches)
    free = [n for n in polling_order(first + len(ports)) if n >= first]
    on_the_way = sorted(ports, key=lambda port: stage(port, roles))
    port_of = dict(zip(free, on_the_way, strict=True))
    by_number = [port_of[number] for number in sorted(port_of)]
    return [list(batch) for _, batch in groupby(by_number, key=lambda p: stage(p, roles))]


def _insert(buckets: list[list[int]], number: int) -> None:
    buckets[_hash(number) & (len(buckets) - 1)].insert(0, number)


def _bucket_count(held: int) -> int:
    """Powers of two; one, or at least four."""
    mask = (1 << (held // 2).bit_length()) - 1
    return (mask | (mask & 1) << 1) + 1


def _hash(number: int) -> int:
    """OVS's hash_int(number, 0): MurmurHash3's steps on two words."""
    return _finish(_add(_add(number, 0), 0) ^ 8)


def _add(hashed: int, word: int) -> int:
    word = word * 0xCC9E2D51 & _WORD
    word = _rotated(word, 15) * 0x1B873593 & _WORD
    return _rotated(hashed ^ word, 13) * 5 + 0xE6546B64 & _WORD


def _finish(hashed: int) -> int:
    hashed ^= hashed >> 16
    hashed = hashed * 0x85EBCA6B & _WORD
    hashed ^= hashed >> 13
    hashed = hashed * 0xC2B2AE35 & _WORD
    return hashed ^ hashed >> 16


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _WORD
