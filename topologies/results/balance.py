"""The packet balance: every packet that was sent is received or was dropped by a rule. Pure.

sent - received - meter drops - queue drops - function drops - rule drops = 0, per slice, from
traffic start until the network has drained. Slices that share a queue which dropped are balanced
together, because nobody can say whose the dropped packets were. Hosts count what is sent and
received, TCP's segments in their kernels (traffic/segments.py).
Rule drops are packets of a user who had no radio link (break before make), or of an address that
nobody has any more; a miss rule drops and counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from topologies.results.evidence import SharedQueueDrops, SwitchCounts
from topologies.services.packet_counts import Datagrams
from topologies.traffic.flows import Flow


@dataclass(frozen=True)
class HostCounts:
    """Packets of one slice since traffic start, as senders and receivers counted them."""

    sent: int
    received: int
    host_drops: int
    """Part of `sent` that the sending kernel refused."""
    socket_drops: int
    """Part of the missing that reached the receiving host and found the buffer full."""

@dataclass(frozen=True)
class ElsewhereDrops:
    """Packets by slice id that were dropped where switches do not count."""

    radio: Mapping[int, int] = field(default_factory=dict)
    functions: Mapping[int, int] = field(default_factory=dict)


NOWHERE_ELSE = ElsewhereDrops()


@dataclass(frozen=True)
class Balance:
    slice_ids: tuple[int, ...]
    sent: int
    received: int
    meter_drops: int
    queue_drops: int
    host_drops: int
    socket_drops: int
    function_drops: int = 0
    """By network functions, which are hosts: they counted them themselves."""
    misses: int = 0
    """Counted by miss rules, whoever sent the packets."""

    @property
    def rule_drops(self) -> int:
        """Of the packets not received, those that miss rules explain."""
        return max(0, min(self.misses, self._unexplained))

    @property
    def missing(self) -> int:
        """Packets nobody accounts for; negative when drops were counted twice."""
        return self._unexplained - self.rule_drops

    @property
    def _unexplained(self) -> int:
        dropped = self.meter_drops + self.queue_drops + self.function_drops
        return self.sent - self.received - dropped


def host_counts(
    flows: Sequence[Flow],
    totals: npt.NDArray[np.void],
    requests: Mapping[int, Datagrams] = MappingProxyType({}),
    segments: Mapping[int, Datagrams] = MappingProxyType({}),
) -> dict[int, HostCounts]:
    """Per slice id, the filler's included. `requests`: of task services by slice id, with their
    replies; `segments`: of TCP flows by flow id."""
    result = {}
    for slice_id in sorted({f.slice_id for f in flows} | set(requests)):
        rows = [f.flow_id for f in flows if f.slice_id == slice_id]
        asked = requests.get(slice_id, Datagrams())
        for row in rows:
            asked += segments.get(row, Datagrams())
        result[slice_id] = HostCounts(
            sent=int(totals["sent_packets"][rows].sum()) + asked.sent,
            received=int(totals["received_packets"][rows].sum()) + asked.received,
            host_drops=int(totals["host_drops"][rows].sum()),
            socket_drops=int(totals["socket_drops"][rows].sum()),
        )
    return result


def balances(
    hosts: dict[int, HostCounts],
    switches: SwitchCounts,
    elsewhere: ElsewhereDrops = NOWHERE_ELSE,
) -> list[Balance]:
    """One balance a group of slices, smallest slice id first.

    ValueError when the switches counted nothing of a slice that has traffic.
    """
    unknown = sorted(set(hosts) - set(switches.slices))
    if unknown:
        raise ValueError(f"the switches' counters lack slices {unknown}")
    groups = _groups(sorted(hosts), switches.shared)
    return [_balance(group, hosts, switches, elsewhere) for group in groups]


def _balance(
    group: tuple[int, ...],
    hosts: dict[int, HostCounts],
    switches: SwitchCounts,
    elsewhere: ElsewhereDrops,
) -> Balance:
    host = [hosts[s] for s in group]
    switch = [switches.slices[s] for s in group]
    shared = sum(d.packets for d in switches.shared if d.slice_ids & set(group))
    at_radio = sum(elsewhere.radio.get(s, 0) for s in group)
    return Balance(
        slice_ids=group,
        sent=sum(h.sent for h in host),
        received=sum(h.received for h in host),
        meter_drops=sum(s.meter_drops for s in switch),
        queue_drops=sum(s.queue_drops for s in switch) + shared + at_radio,
        host_drops=sum(h.host_drops for h in host),
        socket_drops=sum(h.socket_drops for h in host),
        function_drops=sum(elsewhere.functions.get(s, 0) for s in group),
        misses=sum(s.misses for s in switch),
    )


def _groups(slice_ids: Sequence[int], shared: Sequence[SharedQueueDrops]) -> list[tuple[int, ...]]:
    """Slices joined by shared queues that dropped."""
    groups = [{slice_id} for slice_id in slice_ids]
    for drops in shared:
        if drops.packets == 0:
            continue
        joined = [g for g in groups if g & drops.slice_ids]
        groups = [g for g in groups if not g & drops.slice_ids]
        if joined:
            groups.append(set().union(*joined))
    return sorted(tuple(sorted(group)) for group in groups)
