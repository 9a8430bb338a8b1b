"""The order in which Open vSwitch looks at its ports, seen by stopping it: what waits at every
port when it goes on comes out in that order.
"""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.emulated.networks import two_cells
from tests.waiting import wait_until
from topologies import namespaces
from topologies.plan import PlannedHost
from topologies.polling import stage

pytestmark = pytest.mark.emulated

ETHERTYPE = 0x88B5
"""Local experimental."""
ROUNDS = 5
_HERE = "/proc/thread-self/ns/net"


@pytest.fixture(scope="module")
def net(make_testbed: Callable[..., Any]) -> Iterator[Any]:
    with make_testbed(two_cells()) as testbed:
        for switch in testbed.inventory.switches:
            namespaces.run(["ip", "link", "set", "dev", switch.name, "up"])
            words = f"priority=1,dl_type={ETHERTYPE:#x},actions=LOCAL"
            testbed.ovs.ofctl("add-flow", switch.name, words)
        yield testbed


def far_ends(testbed: Any) -> dict[str, socket.socket]:
    """By the port's interface: where a frame is sent that comes in there."""
    found = {}
    for link in (each for each in testbed.network.plan.links if not each.over_wire):
        ends = [(link.left.interface, _HERE, link.right.interface)]
        if isinstance(link.right, PlannedHost):
            ends = [(link.left.interface, testbed.netns(link.right.name), link.right.interface)]
        else:
            ends.append((link.right.interface, _HERE, link.left.interface))
        for port, namespace, device in ends:
            raw = namespaces.socket_in(namespace, socket.AF_PACKET, socket.SOCK_RAW)
            raw.bind((device, 0))
            found[port] = raw
    return found


def waits_for_frames(pid: int) -> bool:
    """The forwarding thread sleeps, so it is not in the middle of a round."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def came_out(listener: socket.socket, bridges: set[str], count: int) -> list[str]:
    """What the frames said that left by bridges' own devices, in that order."""
    found: list[str] = []
    while len(found) < count:
        frame, (device, _, kind, *_) = listener.recvfrom(256)
        if device in bridges and kind != socket.PACKET_OUTGOING:
            found.append(frame[14:].rstrip(b"\0").decode())
    return found


def test_ports_are_looked_at_in_the_order_in_which_packets_pass_them(net: Any) -> None:
    roles = {s.name: s.role for s in net.inventory.switches}
    stages = {p.interface: stage(p, roles) for p in net.network.plan.ports}
    ends = far_ends(net)
    assert {stages[port] for port in ends} == {0, 1, 2, 4, 5}
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    listener.settimeout(5.0)
    with ExitStack() as stack:
        for opened in (listener, *ends.values()):
            stack.enter_context(closing(opened))
        rounds = [one_round(net, ends, listener, set(roles)) for _ in range(ROUNDS)]
    seen = [[stages[port] for port in ports] for ports in rounds]
    # One may have been stopped in the middle of a round.
    assert sum(of_round == sorted(of_round) for of_round in seen) >= ROUNDS - 1, seen


def one_round(
    net: Any, ends: dict[str, socket.socket], listener: socket.socket, bridges: set[str]
) -> list[str]:
    """Ports in the order in which a frame was taken from each."""
    wait_until(lambda: waits_for_frames(net.ovs.vswitchd_pid), 5.0)
    os.kill(net.ovs.vswitchd_pid, signal.SIGSTOP)
    for port in random.sample(sorted(ends), len(ends)):
        header = b"\x02" + bytes(11) + ETHERTYPE.to_bytes(2, "big")
        ends[port].send((header + port.encode()).ljust(60, b"\0"))
    os.kill(net.ovs.vswitchd_pid, signal.SIGCONT)
    return came_out(listener, bridges, len(ends))
