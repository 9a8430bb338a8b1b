"""What a handover cost its user: probes lost and the gap between arrivals. Pure.

Looks at the real-time probes of the user, both directions, sent from 0.5 s before the
decision until 1 s after its last confirmation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from controller.contracts.decisions import Action, DecisionRecord, Verdict
from controller.contracts.slices import TrafficClass
from topologies.results.evidence import Attachment, moment_ns
from topologies.results.percentiles import percentiles
from topologies.traffic.flows import Flow
from topologies.traffic.samples import Samples

BEFORE_NS = 500_000_000
AFTER_NS = 1_000_000_000


PING_PONG_NS = 1_000_000_000
"""Back at the cell it left within the minimum time of stay (TR 36.839 5.2.4: 1 s)."""


@dataclass(frozen=True)
class DirectionCost:
    """Of all probe flows of a user in one direction."""

    lost_packets: int
    interruption_ms: float
    """Largest gap between two arrivals of a flow, less the probe's period."""
    reordered_packets: int
    """Arrived after a packet with a higher sequence number (RFC 4737 section 3)."""


@dataclass(frozen=True)
class HandoverCost:
    """A direction is None for a user without real-time probes in it."""

    at_ns: int
    ue_id: str
    cell_id: str
    down: DirectionCost | None
    up: DirectionCost | None

    @property
    def lost_packets(self) -> int | None:
        """Of both directions."""
        return sum(d.lost_packets for d in self._seen) if self._seen else None

    @property
    def interruption_ms(self) -> float | None:
        """The longer one."""
        return max((d.interruption_ms for d in self._seen), default=None)

    @property
    def _seen(self) -> list[DirectionCost]:
        return [d for d in (self.down, self.up) if d is not None]


def handover_costs(
    decisions: Iterable[DecisionRecord],
    flows: Sequence[Flow],
    samples: Samples,
    start_ns: int,
    end_ns: int,
) -> list[HandoverCost]:
    """Of the handovers applied in [start, end)."""
    return [
        _cost(record, flows, samples)
        for record in decisions
        if record.action is Action.HANDOVER
        and record.verdict is Verdict.APPLIED
        and start_ns <= moment_ns(record) < end_ns
    ]


def _cost(record: DecisionRecord, flows: Sequence[Flow], samples: Samples) -> HandoverCost:
    at_ns, ue_id = moment_ns(record), str(record.target["ue_id"])
    began_ns = record.hops_ns.get("received", at_ns)
    probes = [
        f
        for f in flows
        if f.kind == "probe" and f.ue_id == ue_id and f.traffic_class is TrafficClass.REAL_TIME
    ]
    since_ns, until_ns = began_ns - BEFORE_NS, at_ns + AFTER_NS
    return HandoverCost(
        at_ns=at_ns,
        ue_id=ue_id,
        cell_id=str(record.parameters["cell_id"]),
        down=_direction_cost([f for f in probes if f.direction == "down"], samples, since_ns, until_ns),
        up=_direction_cost([f for f in probes if f.direction == "up"], samples, since_ns, until_ns),
    )


def _direction_cost(
    probes: Sequence[Flow], samples: Samples, since_ns: int, until_ns: int
) -> DirectionCost | None:
    seen = [c for f in probes if (c := _flow_cost(f, samples, since_ns, until_ns)) is not None]
    if not seen:
        return None
    return DirectionCost(
        lost_packets=sum(c.lost_packets for c in seen),
        interruption_ms=max(c.interruption_ms for c in seen),
        reordered_packets=sum(c.reordered_packets for c in seen),
    )


def _flow_cost(flow: Flow, samples: Samples, since_ns: int, until_ns: int) -> DirectionCost | None:
    """None with fewer than two arrivals around.

    The last arrival before and the first after belong to it, so that a gap that
    outlasts the window is seen whole.
    """
    own = samples.where(samples.flow_id == flow.flow_id)
    order = np.argsort(own.sent_ns)
    first, last = np.searchsorted(own.sent_ns[order], [since_ns, until_ns])
    around = order[max(0, int(first) - 1) : int(last) + 1]
    if len(around) < 2 or flow.rate_pps is None:
        return None
    sequence = np.unique(own.sequence[around].astype(np.int64))
    arrived_ns = (own.sent_ns + own.owd_ns)[around]
    by_arrival = own.sequence[around][np.argsort(arrived_ns, kind="stable")].astype(np.int64)
    gaps_ns = np.diff(np.sort(arrived_ns))
    return DirectionCost(
        lost_packets=int(sequence[-1] - sequence[0] + 1 - len(sequence)),
        interruption_ms=max(0.0, float(gaps_ns.max()) / 1e6 - 1000 / flow.rate_pps),
        reordered_packets=int(np.sum(by_arrival < np.maximum.accumulate(by_arrival))),
    )


def ping_pongs(attachments: Sequence[Attachment], start_ns: int, end_ns: int) -> int:
    """Handovers in [start, end) that undid the user's one before within `PING_PONG_NS`.

    `attachments` in the order of time, first ones included.
    """
    visited: dict[str, list[Attachment]] = {}
    count = 0
    for now in attachments:
        before = visited.setdefault(now.ue_id, [])
        returns = len(before) >= 2 and before[-2].cell_id == now.cell_id
        if returns and now.at_ns - before[-1].at_ns <= PING_PONG_NS:
            count += start_ns <= now.at_ns < end_ns
        before.append(now)
    return count


def handover_figures(costs: Sequence[HandoverCost], ping_pong_count: int) -> dict[str, Any]:
    """`handovers` of summary.json; lost packets and interruptions are of users with probes."""
    return {
        "count": len(costs),
        "ping_pongs": ping_pong_count,
        "with_probes": sum(c.lost_packets is not None for c in costs),
        "interruption_ms": _spread([c.interruption_ms for c in costs]),
        "lost_packets": sum(c.lost_packets or 0 for c in costs),
        "down": _direction_figures([c.down for c in costs]),
        "up": _direction_figures([c.up for c in costs]),
        "each": [
            {
                "at_ns": c.at_ns,
                "ue_id": c.ue_id,
                "cell_id": c.cell_id,
                "lost_packets": c.lost_packets,
                "interruption_ms": c.interruption_ms,
                "down": None if c.down is None else asdict(c.down),
                "up": None if c.up is None else asdict(c.up),
            }
            for c in costs
        ],
    }


def _direction_figures(costs: Sequence[DirectionCost | None]) -> dict[str, Any]:
    seen = [c for c in costs if c is not None]
    return {
        "lost_packets": sum(c.lost_packets for c in seen),
        "reordered_packets": sum(c.reordered_packets for c in seen),
        "interruption_ms": _spread([c.interruption_ms for c in seen]),
    }


def _spread(values_ms: Sequence[float | None]) -> dict[str, float | None]:
    known = [v for v in values_ms if v is not None]
    return {**percentiles(known, ("p50", "p95", "p99")), "max": max(known, default=None)}
