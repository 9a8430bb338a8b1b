"""Requests of task services in the packet balance: counted by the hosts, whoever died meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from controller.contracts.slices import TrafficClass
from topologies.results.balance import balances, host_counts
from topologies.results.evidence import SwitchCounts, SwitchTotals
from topologies.scenario.schema import ConstantDemand
from topologies.services.packet_counts import Datagrams, PacketCounts
from topologies.traffic.flows import Endpoint, Flow

KILLED = """
import os, signal, sys
from pathlib import Path
from topologies.services.packet_counts import PacketCounts
counts = PacketCounts(Path(sys.argv[1]))
for _ in range(3):
    counts.count_received()
counts.count_sent()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_counts_outlive_a_killed_instance_and_the_next_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "instance.packets"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    counts = PacketCounts(path)
    assert counts.total() == Datagrams(sent=2, received=6)
    counts.close()


def test_a_service_that_moved_is_balanced_by_what_hosts_counted() -> None:
    """Whatever way the switches credited them to."""
    nothing = np.zeros(0, dtype=[(n, "<i8") for n in
        ("sent_packets", "received_packets", "host_drops", "socket_drops")])  # fmt: skip
    hosts = host_counts([], nothing, {2: Datagrams(1000, 999)})
    totals = SwitchTotals(meter_drops=0, queue_drops=1)
    (one,) = balances(hosts, SwitchCounts({2: totals}))
    assert (one.sent, one.received, one.missing) == (1000, 999, 0)


def tcp_flow() -> Flow:
    end = Endpoint("cloud", "10.1.200.1", 5001)
    return Flow(
        0, "bulk", "tcp", "bulk", 1, TrafficClass.ELASTIC, "ue1", "", "down", end,
        Endpoint("ue1", "10.1.1.1", 5001), 1448, ConstantDemand(shape="constant", mbps=1),
    )  # fmt: skip


def test_tcp_is_balanced_by_the_segments_that_hosts_counted() -> None:
    totals = np.zeros(1, dtype=[(n, "<i8") for n in
        ("sent_packets", "received_packets", "host_drops", "socket_drops")])  # fmt: skip
    switches = SwitchCounts({1: SwitchTotals(meter_drops=0, queue_drops=3)})
    counted = host_counts([tcp_flow()], totals, segments={0: Datagrams(503, 500)})
    (one,) = balances(counted, switches)
    assert (one.sent, one.received, one.missing) == (503, 500, 0)
