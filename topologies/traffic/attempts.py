"""Attempts to cross slices: crafted frames from a user's namespace, watched for everywhere.

Each frame carries a mark and its attempt's number; a raw socket in every host lets
marked frames through and nothing else. What should not arrive and does is a leak.
The `LAWFUL` attempts must arrive: without them, silence would prove nothing.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

from controller.contracts.inventory import Host, Inventory, Service, Session, User
from controller.contracts.slices import dscp_of
from topologies.namespaces import inside
from topologies.traffic.attack_frames import attempts_between
from topologies.traffic.leaks import packet_socket
from topologies.traffic.marked_frames import MARK, Attempt, Ends
from topologies.traffic.packet_filter import (
    ACCEPT,
    ANCILLARY_PACKET_TYPE,
    DROP,
    LOAD_WORD,
    Instruction,
    if_equal,
)

_PACKET_OUTGOING = 4
_ETHERNET_BYTES = 14
_TAG_BYTES = 4
_GAP_S = 0.002
_LISTEN_S = 0.5


@dataclass(frozen=True)
class Crossing:
    sent: int
    arrived: int
    leaked: int
    at: tuple[str, ...]
    """Hosts at which leaked frames arrived."""
    crosses_if_carried: bool


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
    attempts = attempts_between(ends_of(cast, inventory))
    program = marked_program(_mark_offsets(attempts))
    # Not at the attacker's own host: errors about its frames come back there.
    watched = [h for h in inventory.hosts if h.name != cast.attacker.host]
    watchers = {h.name: packet_socket(h, program) for h in watched}
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


def ends_of(cast: _Cast, inventory: Inventory) -> Ends:
    """The cast as its frames see it."""
    return Ends(
        mac=inventory.host(cast.attacker.host).mac,
        own_ip=cast.own.ip,
        own_service_ip=cast.own_service.address,
        own_slice_id=cast.own.slice_id,
        victim_mac=inventory.host(cast.victim.host).mac,
        foreign_ip=cast.foreign.ip,
        foreign_service_ip=cast.foreign_service.address,
        foreign_slice_id=cast.foreign.slice_id,
        foreign_dscp=dscp_of(cast.foreign.slice_id, cast.foreign_service.traffic_class),
    )


def _service_in(inventory: Inventory, slice_id: int) -> Service | None:
    return next((s for s in inventory.services if s.slice_id == slice_id), None)


def _mark_offsets(attempts: list[Attempt]) -> list[int]:
    """Where a mark may lie in an arrived frame: the kernel takes up to two tags out."""
    mark = struct.pack("!I", MARK)
    found = {frame.index(mark) for attempt in attempts for frame in attempt.frames}
    untagged = {at - tags * _TAG_BYTES for at in found for tags in (1, 2)}
    # Ascending: a load beyond the frame's end would end the program with a refusal.
    return sorted(at for at in found | untagged if at >= _ETHERNET_BYTES)


def marked_program(offsets: list[int]) -> list[Instruction]:
    program: list[Instruction] = [
        (LOAD_WORD, 0, 0, ANCILLARY_PACKET_TYPE),
        *if_equal(_PACKET_OUTGOING, [DROP]),
    ]
    for offset in offsets:
        program += [(LOAD_WORD, 0, 0, offset), *if_equal(MARK, [ACCEPT])]
    return [*program, DROP]


def _send(host: Host, attempts: list[Attempt], count: int) -> None:
    with inside(host.netns_path):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw:
        raw.bind((host.interface, 0))
        frames = [frame for attempt in attempts for frame in attempt.frames]
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
    at = frame.index(struct.pack("!I", MARK))
    return int.from_bytes(frame[at + 4 : at + 6], "big")


def _judged(attempt: Attempt, count: int, arrived: list[tuple[str, bytes]]) -> Crossing:
    leaked = [host for host, frame in arrived if attempt.crossed(frame)]
    sent = count * len(attempt.frames)
    return Crossing(
        sent, len(arrived), len(leaked), tuple(sorted(set(leaked))), attempt.crosses_if_carried
    )
