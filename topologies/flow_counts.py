"""Cumulative counts of every flow: the shared table's, and for TCP the user's kernel's.

Paced flows and probes are counted by the testbed's own senders and receivers; a
TCP flow is iperf3's, so the kernel of the user's host is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from controller.contracts.inventory import Inventory
from topologies.tcp_connections import SEGMENT_OVERHEAD_BYTES, Connection, TcpConnections
from topologies.traffic.counters import FlowCounters
from topologies.traffic.flows import USER_PORT_BASE
from topologies.user_reports import Totals


class FlowCounts:
    """Reads both; NamespaceError when a TCP user's namespace cannot be entered."""

    def __init__(self, counters: FlowCounters, inventory: Inventory) -> None:
        self._counters = counters
        self._tcp_flows: dict[str, list[int]] = {}
        for flow_id, flow in enumerate(counters.flows):
            if flow["kind"] == "tcp":
                self._tcp_flows.setdefault(flow["ue_id"], []).append(flow_id)
        host_of = {u.ue_id: u.host for u in inventory.users}
        self._kernels = {
            ue_id: TcpConnections(inventory.host(host_of[ue_id]).netns_path)
            for ue_id in self._tcp_flows
        }

    @property
    def flows(self) -> list[Mapping[str, Any]]:
        """The table's metadata; index = flow id."""
        return self._counters.flows

    def snapshot(self, ue_id: str, flow_ids: Sequence[int]) -> Totals:
        """Rows of `TOTALS` of that user's flows, in that order."""
        totals = self._counters.totals[[*flow_ids]]
        tcp_flows = self._tcp_flows.get(ue_id)
        if tcp_flows is None:
            return totals
        connections = self._kernels[ue_id].read()
        now_ns = time.time_ns()
        for flow_id in tcp_flows:
            row = flow_ids.index(flow_id)
            is_up = self.flows[flow_id]["direction"] == "up"
            for name, value in tcp_counts(flow_id, is_up, connections, now_ns).items():
                totals[name][row] = value
        return totals


def tcp_counts(
    flow_id: int, is_up: bool, connections: Sequence[Connection], now_ns: int
) -> dict[str, int]:
    """Columns of `TOTALS` for a TCP flow as the user's end sees it; bytes are L2.

    The receiving end listens at the flow's own port.  What was retransmitted
    stands as `host_drops`: what the user's own end knows to be lost.
    """
    port = USER_PORT_BASE + flow_id
    if is_up:
        own = [c for c in connections if c.remote_port == port]
        sent = sum(c.segments_out for c in own)
        acked_bytes = sum(c.bytes_acked for c in own)
        return {
            "sent_packets": sent,
            "sent_bytes": acked_bytes + sent * SEGMENT_OVERHEAD_BYTES,
            "host_drops": sum(c.retransmitted for c in own),
            "sent_updated_ns": now_ns,
        }
    own = [c for c in connections if c.local_port == port]
    received = sum(c.segments_in for c in own)
    payload_bytes = sum(c.bytes_received for c in own)
    return {
        "received_packets": received,
        "received_bytes": payload_bytes + received * SEGMENT_OVERHEAD_BYTES,
        "received_updated_ns": now_ns,
    }
