"""Every pair of slices, every protocol, before, during and after changes: no frame crosses.
And with the rules of isolation taken out, the same frames cross and are seen."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import permutations

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.contracts.addressing import GATEWAY_MAC, ipv6_of
from controller.contracts.inventory import Inventory
from tests.emulated.enforced import Enforced, control, video
from tests.waiting import wait_until
from topologies.namespaces import socket_in
from topologies.traffic.attempts import marked_program
from topologies.traffic.leaks import packet_socket
from topologies.traffic.marked_frames import MARK, PORT

USERS = {1: "ue1", 2: "ue2", 3: "ue3"}
ROUND_S = 0.004
LAWFUL_FROM = 1000
MARK_OFFSETS = [42, 54, 62, 74]
"""Behind UDP and ICMP, and TCP, of both IP versions."""


@dataclass(frozen=True)
class Frame:
    number: int
    name: str
    data: bytes


def frames_from(slice_id: int, inventory: Inventory) -> Iterator[Frame]:
    """To users and services of the other slices, and (numbers from `LAWFUL_FROM`) of its own."""
    host = inventory.host(USERS[slice_id])
    source = session_of(slice_id, inventory)
    targets = [
        (other, ip)
        for other in USERS
        for ip in (session_of(other, inventory), service_of(other, inventory))
        if ip != source
    ]
    number = slice_id * 100
    for other, target in targets:
        for name, packet in packets(source, target):
            number += 1
            own = LAWFUL_FROM if other == slice_id else 0
            data = bytes(
                Ether(src=host.mac, dst=GATEWAY_MAC)
                / packet
                / Raw(struct.pack("!IH", MARK, own + number) + bytes(18))
            )
            yield Frame(own + number, f"{slice_id} to {other} ({target}) {name}", data)


def packets(source: str, target: str) -> Iterator[tuple[str, Packet]]:
    four = IP(src=source, dst=target)
    six = IPv6(src=ipv6_of(source), dst=ipv6_of(target))
    # An answer where one is awaited has no mark, so nobody's echo reply is taken for a leak.
    yield "ICMP", four / ICMP(type=0)
    yield "ICMPv6", six / ICMPv6EchoRequest(type=129)
    for ip, suffix in ((four, ""), (six, " IPv6")):
        yield f"UDP{suffix}", ip / UDP(sport=PORT, dport=PORT)
        yield f"TCP{suffix}", ip / TCP(sport=PORT, dport=PORT, flags="R")


def session_of(slice_id: int, inventory: Inventory) -> str:
    return inventory.user(USERS[slice_id]).sessions[0].ip


def service_of(slice_id: int, inventory: Inventory) -> str:
    return next(s.address for s in inventory.services if s.slice_id == slice_id)


@dataclass
class Crossfire:
    """Sends all frames of all users in turn; counts what arrives, by number."""

    frames: dict[int, Frame]
    rounds: int = 0
    arrived: Counter[int] = field(default_factory=Counter)

    def leaks(self) -> dict[str, int]:
        return {self.frames[n].name: c for n, c in self.arrived.items() if n < LAWFUL_FROM}

    def lawful(self) -> int:
        return sum(c for n, c in self.arrived.items() if n >= LAWFUL_FROM)

    def more_rounds(self, count: int) -> None:
        target = self.rounds + count
        wait_until(lambda: self.rounds >= target, 20.0)


@contextmanager
def crossfire(inventory: Inventory) -> Iterator[Crossfire]:
    by_slice = {s: list(frames_from(s, inventory)) for s in USERS}
    fire = Crossfire({f.number: f for frames in by_slice.values() for f in frames})
    watchers = [packet_socket(h, marked_program(MARK_OFFSETS)) for h in inventory.hosts]
    senders = {}
    for slice_id, user in USERS.items():
        host = inventory.host(user)
        raw = socket_in(host.netns_path, socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind((host.interface, 0))
        senders[slice_id] = raw
    done = threading.Event()

    def read() -> None:
        for watcher in watchers:
            try:
                while True:
                    frame = watcher.recv(256)
                    at = frame.index(struct.pack("!I", MARK)) + 4
                    fire.arrived[int.from_bytes(frame[at : at + 2], "big")] += 1
            except BlockingIOError:
                continue

    def shoot() -> None:
        while not done.is_set():
            for slice_id, raw in senders.items():
                for frame in by_slice[slice_id]:
                    raw.send(frame.data)
            fire.rounds += 1
            read()
            done.wait(ROUND_S)

    shooting = threading.Thread(target=shoot)
    shooting.start()
    try:
        yield fire
    finally:
        done.set()
        shooting.join()
        read()
        for opened in (*watchers, *senders.values()):
            opened.close()


def test_no_pair_of_slices_meets_at_any_moment(net: Enforced) -> None:
    inventory = net.testbed.inventory
    with crossfire(inventory) as fire:
        crossing = {f.name for n, f in fire.frames.items() if n < LAWFUL_FROM}
        pairs = len(list(permutations(USERS, 2)))
        assert len(crossing) == pairs * 2 * 6
        fire.more_rounds(25)
        for step in range(2):
            before = fire.rounds
            assert net.run(
                net.enforcer.reserve("ap1", [video(4000 + 500 * step, 9000), control(3000)])
            ).confirmed
            for user in USERS.values():
                there = "ap2" if net.enforcer.attachments()[user] == "ap1" else "ap1"
                assert net.run(net.enforcer.handover(user, there)).confirmed
            net.run(net.enforcer.settled())
            assert fire.rounds > before + 5, "changes were over before a frame was sent"
        fire.more_rounds(25)
    print(f"{fire.rounds} rounds of {len(fire.frames)} frames, {fire.lawful()} lawful arrived")
    assert fire.leaks() == {}
    assert fire.lawful() > fire.rounds * 6


def test_without_the_rules_of_isolation_the_same_frames_are_seen(net: Enforced) -> None:
    """Nobody repairs meanwhile: the Enforcer's watch runs only when the test lets it."""
    inventory = net.testbed.inventory
    alien = "table=2,priority=65000"
    for switch in inventory.switches:
        net.ofctl("add-flow", net.bridge(switch.name), f"{alien},actions=goto_table:3")
    try:
        with crossfire(inventory) as fire:
            fire.more_rounds(10)
    finally:
        for switch in inventory.switches:
            net.ofctl("--strict", "del-flows", net.bridge(switch.name), alien)
    found = {name.partition(" (")[0] for name in fire.leaks()}
    assert found == {f"{a} to {b}" for a, b in permutations(USERS, 2)}
    with crossfire(inventory) as fire:
        fire.more_rounds(10)
    assert fire.leaks() == {}
