"""A user who comes back to a cell it left some seconds ago, on a real Open vSwitch.

What the switches cached for the way over that cell still stands then.  Open vSwitch looks at
one cached flow after another when rules change, so for as long as that takes one switch
may forward by new rules and the next by old ones.  Here it takes long: thousands of
frames that are never alike have filled the cache.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.emulated.conftest import OWN_REVALIDATE_MS
from tests.emulated.enforced import STREAM, TASK, UE1_CONTROL, UE1_VIDEO, Enforced, enforced
from tests.emulated.networks import two_cells
from tests.emulated.paced_udp import HEADER_BYTES, Arrivals, send_and_count
from topologies.namespaces import socket_in

pytestmark = pytest.mark.emulated

PORT = 7000
CACHED = 4000
RATE_PPS = 1000
RETURNS = 4
BACKHAUL_MS = 6.0
"""Of the cell that the user comes back to; longer than the switches need to change."""
LONGEST_S = 30.0
AWAY_S = 0.4
"""Beyond what a handover takes to clear up; below the 10 s for which a cached flow stays."""


@pytest.fixture(scope="module")
def net(make_testbed: Callable[..., Any]) -> Iterator[Enforced]:
    document = two_cells()
    document["access_points"][0]["backhaul"] = {"delay_ms": BACKHAUL_MS}
    built = make_testbed(document, revalidate_ms=OWN_REVALIDATE_MS)
    with built as testbed, enforced(testbed) as network:
        yield network


def fill_the_cache(net: Enforced) -> None:
    """Frames to addresses of the link layer that nobody has: the last switch, which puts the
    server's own in, caches a flow for each."""
    user = net.testbed.inventory.host("ue2")
    own, service = net.testbed.session_ip("ue2", 1), STREAM
    packet = IP(src=own, dst=service) / UDP(sport=PORT, dport=PORT) / Raw(b"x" * 64)
    frame = bytes(Ether(src=user.mac, dst="02:00:00:00:00:00") / packet)
    with socket_in(user.netns_path, socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((user.interface, 0))
        for _ in range(CACHED):
            raw.send(b"\x06" + os.urandom(5) + frame[6:])


@pytest.mark.parametrize(
    ("sender", "source_ip", "user_ip"),
    [("edge1", STREAM, UE1_VIDEO), ("cloud", TASK, UE1_CONTROL)],
    ids=["server_at_the_cell", "server_beyond_the_core"],
)
def test_coming_back_loses_nothing(
    net: Enforced, sender: str, source_ip: str, user_ip: str
) -> None:
    async def come_and_go() -> Arrivals:
        testbed, mbps = net.testbed, RATE_PPS * (100 + HEADER_BYTES) * 8 / 1e6
        enough = threading.Event()
        sending = asyncio.create_task(
            asyncio.to_thread(
                send_and_count, testbed.netns(sender), testbed.netns("ue1"), (user_ip, PORT),
                mbps, LONGEST_S, 0, 100, source_ip, enough,
            )
        )  # fmt: skip
        for _ in range(RETURNS):
            for cell_id in ("ap2", "ap1"):
                await asyncio.to_thread(fill_the_cache, net)
                await asyncio.sleep(AWAY_S)
                result = await net.enforcer.handover("ue1", cell_id)
                assert result.confirmed, result.confirmations
                await net.enforcer.settled()
        assert not sending.done(), "not all returns were under traffic"
        await asyncio.sleep(AWAY_S)
        enough.set()
        return await sending

    arrivals = net.run(come_and_go())
    assert arrivals.received == arrivals.sent > RETURNS * RATE_PPS
