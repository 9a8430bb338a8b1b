"""What a handover cost its user: probes lost and the gap between arrivals. Pure.

Looks at the real-time probes of the user, both directions, sent from 0.5 s before the
decision until 1 s after its last confirmation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.contracts.decisions import Action, DecisionRecord, Verdict
from controller.contracts.slices import TrafficClass
from topologies.results.evidence import moment_ns
from topologies.traffic.flows import Flow
from topologies.traffic.samples import Samples

BEFORE_NS = 500_000_000
AFTER_NS = 1_000_000_000


@dataclass(frozen=True)
class HandoverCost:
    """`lost_packets` and `interruption_ms` are None for a user without real-time probes."""

    at_ns: int
    ue_id: str
    cell_id: str
    lost_packets: int | None
    interruption_ms: float | None
    """Largest gap between two arrivals of a flow, less the probe's period."""


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
    seen = [
        cost
        for f in probes
        if (cost := _flow_cost(f, samples, began_ns - BEFORE_NS, at_ns + AFTER_NS)) is not None
    ]
    return HandoverCost(
        at_ns=at_ns,
        ue_id=ue_id,
        cell_id=str(record.parameters["cell_id"]),
        lost_packets=sum(lost for lost, _ in seen) if seen else None,
        interruption_ms=max(gap for _, gap in seen) if seen else None,
    )


def _flow_cost(
    flow: Flow, samples: Samples, since_ns: int, until_ns: int
) -> tuple[int, float] | None:
    """(lost packets, interruption in ms); None with fewer than two arrivals around.

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
    lost = int(sequence[-1] - sequence[0] + 1 - len(sequence))
    gaps_ns = np.diff(np.sort((own.sent_ns + own.owd_ns)[around]))
    return lost, max(0.0, float(gaps_ns.max()) / 1e6 - 1000 / flow.rate_pps)
