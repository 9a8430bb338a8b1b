"""Hops of a trace: what the RIC itself saw of it, and what may be believed of the rest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from controller.contracts.twin_messages import CellAggregate

TRACES_KEPT = 4096
HOP_AGE_MAX_NS = 3600 * 10**9


class TraceBook:
    """trace_id -> hops up to the RIC, of the newest aggregates."""

    def __init__(self, traces_kept: int = TRACES_KEPT) -> None:
        self._traces_kept = traces_kept
        self._hops_ns: OrderedDict[str, dict[str, int]] = OrderedDict()

    def note(self, aggregate: CellAggregate, received_at_ns: int) -> None:
        self._hops_ns[aggregate.trace_id] = {
            "twin_completed": aggregate.completed_at_ns,
            "aggregate_sent": aggregate.sent_at_ns,
            "aggregate_received": received_at_ns,
        }
        while len(self._hops_ns) > self._traces_kept:
            self._hops_ns.popitem(last=False)

    def hops_of(
        self, trace_id: str, claimed_ns: Mapping[str, int], received_ns: int
    ) -> dict[str, int]:
        """The RIC's own record wins; a claimed hop must lie in the hour before `received_ns`."""
        believable = {
            hop: at_ns
            for hop, at_ns in claimed_ns.items()
            if received_ns - HOP_AGE_MAX_NS <= at_ns <= received_ns
        }
        return {**believable, **self._hops_ns.get(trace_id, {})}


def loop_latency_ms(hops_ns: Mapping[str, int], centre_delay_ms: float) -> float | None:
    """twin_completed -> confirmed; without the centre's link delay if the trace crossed it."""
    if "twin_completed" not in hops_ns or "confirmed" not in hops_ns:
        return None
    elapsed_ms = (hops_ns["confirmed"] - hops_ns["twin_completed"]) / 1e6
    return elapsed_ms - centre_delay_ms if "aggregate_received" in hops_ns else elapsed_ms
