"""How the local controller itself is doing: rates, waits, counts.  No clock in here."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterable

INTER_ARRIVALS_KEPT = 128
INTER_ARRIVALS_FORGOTTEN = 16
"""At once, when so many are kept: moving them with every report would cost more."""
REACTIONS_KEPT = 1024
RATE_SECONDS = 5


class Observations:
    """Cheap counters, updated once a datagram."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.bytes_on_wire = 0
        self.datagrams = 0
        self.aggregates = 0
        self.aggregate_bytes_on_wire = 0
        self.incomplete_aggregates = 0
        self.send_errors = 0
        self._accepted_by_second: dict[int, int] = {}
        self._arrivals_ns: dict[str, int] = {}
        self._inter_arrivals_ms: dict[str, array[float]] = {}
        """Single precision: 0.5 kB a user, and good to 0.1 us below a second."""
        self._reactions_ms: deque[float] = deque(maxlen=REACTIONS_KEPT)

    def accept(self, ue_id: str, arrived_at_ns: int) -> None:
        self.accepted += 1
        second = arrived_at_ns // 1_000_000_000
        counts = self._accepted_by_second
        counts[second] = counts.get(second, 0) + 1
        if len(counts) > 2 * RATE_SECONDS:
            self._accepted_by_second = {
                s: n for s, n in counts.items() if s > second - RATE_SECONDS - 1
            }
        before_ns = self._arrivals_ns.get(ue_id)
        self._arrivals_ns[ue_id] = arrived_at_ns
        if before_ns is not None:
            recent = self._inter_arrivals_ms.get(ue_id)
            if recent is None:
                recent = self._inter_arrivals_ms[ue_id] = array("f")
            if len(recent) == INTER_ARRIVALS_KEPT:
                del recent[:INTER_ARRIVALS_FORGOTTEN]
            recent.append((arrived_at_ns - before_ns) / 1e6)

    def leave(self, ue_id: str) -> None:
        """The user's absence is no inter-arrival time."""
        self._arrivals_ns.pop(ue_id, None)

    def react(self, arrived_at_ns: int, sent_at_ns: int) -> None:
        """A report completed an aggregate, which left at `sent_at_ns`."""
        self._reactions_ms.append((sent_at_ns - arrived_at_ns) / 1e6)

    def updates_per_s(self, now_ns: int) -> float:
        """Over the last whole `RATE_SECONDS` seconds."""
        second = now_ns // 1_000_000_000
        recent = range(second - RATE_SECONDS, second)
        return sum(self._accepted_by_second.get(s, 0) for s in recent) / RATE_SECONDS

    def inter_arrivals_ms(self) -> dict[str, list[float]]:
        return {ue_id: list(ring) for ue_id, ring in self._inter_arrivals_ms.items()}

    def reaction_ms(self) -> dict[str, float | int | None]:
        """Kernel's arrival of the completing report to the aggregate's departure."""
        ordered = sorted(self._reactions_ms)
        return {
            "p50": percentile(ordered, 50),
            "p99": percentile(ordered, 99),
            "max": ordered[-1] if ordered else None,
            "samples": len(ordered),
        }


def percentile(ordered: Iterable[float], percent: float) -> float | None:
    """Nearest rank of an ascending sequence; None when it is empty."""
    values = list(ordered)
    return values[max(0, -int(-len(values) * percent // 100) - 1)] if values else None
