"""Requests of task services in the packet balance: counted by the hosts, whoever died meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from topologies.results.balance import balances, host_counts
from topologies.results.evidence import SwitchCounts, SwitchTotals
from topologies.services.packet_counts import Datagrams, PacketCounts

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
    """The switches credited 34 requests to the new way that had gone the old one."""
    nothing = np.zeros(0, dtype=[(n, "<i8") for n in
        ("sent_packets", "received_packets", "host_drops", "socket_drops")])  # fmt: skip
    hosts = host_counts([], nothing, {2: Datagrams(1000, 999)})
    totals = SwitchTotals(entered=1000, delivered=1033, meter_drops=0, queue_drops=1)
    (one,) = balances(hosts, SwitchCounts({2: totals}))
    assert (one.basis, one.sent, one.received, one.missing) == ("hosts", 1000, 999, 0)
