"""What twins cost lately, per edge and in all, from counters that local controllers keep."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from controller.contracts.twin_budget import EdgeSpent, UserSpent
from controller.twins.spending import Measured

WINDOW_NS = 20_000_000_000
"""Several of the longest periods, or a total jumps by whole reports."""
SETTLED_NS = WINDOW_NS
"""So long after a change, what is measured is of the settings now."""


class SpendingWindow:
    """Samples of each edge over the last `WINDOW_NS`, oldest first; a restart begins anew."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[EdgeSpent]] = {}
        self._report_bytes: dict[str, float] = {}
        self._changed_ns = 0
        self.unreachable: set[str] = set()

    def add(self, spent: EdgeSpent) -> None:
        samples = self._samples.setdefault(spent.edge, deque())
        if samples and samples[-1].pid != spent.pid:
            samples.clear()
        samples.append(spent)
        while len(samples) > 2 and spent.at_ns - samples[0].at_ns > WINDOW_NS:
            samples.popleft()
        self.unreachable.discard(spent.edge)
        for user in spent.users:
            self._learn(samples[0], user)

    def silent(self, edge: str) -> None:
        """Its counters go on when it answers again; until then it says nothing."""
        self.unreachable.add(edge)

    def changed(self, now_ns: int) -> None:
        self._changed_ns = now_ns

    @property
    def is_known(self) -> bool:
        """Whether there is an edge with two samples."""
        return any(len(samples) > 1 for samples in self._samples.values())

    def users(self) -> list[UserSpent]:
        """As each user's edge said last."""
        found = [u for samples in self._samples.values() for u in samples[-1].users]
        return sorted(found, key=lambda u: u.ue_id)

    def report_bytes(self, ue_id: str) -> float | None:
        """Wire bytes of one datagram of the user; None before the first."""
        return self._report_bytes.get(ue_id)

    def user_bytes_per_s(self, ue_id: str) -> float:
        """At the edge that named it last: one that it left counts no more."""
        own = [n for samples in self._samples.values() if len(n := _naming(samples, ue_id)) > 1]
        if not own:
            return 0.0
        (first_ns, first), *_, (last_ns, last) = max(own, key=lambda named: named[-1][0])
        return (last - first) * 1e9 / (last_ns - first_ns)

    def measured(self, payers: Collection[str]) -> Measured:
        """`payers`: users whose reports are the plan's, not others' (`other_bytes_per_s`)."""
        rates = [r for e in self._samples if (r := self.edge_rates(e)) is not None]
        newest_ns = max((s[-1].at_ns for s in self._samples.values() if s), default=0)
        settled = newest_ns - self._changed_ns >= SETTLED_NS
        others = {user.ue_id for user in self.users()} - {*payers}
        return Measured(
            bytes_per_s=sum(r["bytes_per_s"] for r in rates) if settled else None,
            other_bytes_per_s=sum(map(_steady_bytes_per_s, rates))
            + sum(self.user_bytes_per_s(ue_id) for ue_id in others),
            processor_ratio=sum(r["processor_ratio"] for r in rates) if settled else None,
        )

    def edge_rates(self, edge: str) -> dict[str, float] | None:
        """None with fewer than two samples."""
        samples = self._samples.get(edge)
        if samples is None or len(samples) < 2:
            return None
        first, last = samples[0], samples[-1]
        span_s = (last.at_ns - first.at_ns) / 1e9
        parts = {
            name: (getattr(last, f"{name}_bytes") - getattr(first, f"{name}_bytes")) / span_s
            for name in ("report", "order", "aggregate", "move")
        }
        return {
            "bytes_per_s": sum(parts.values()),
            **{f"{name}_bytes_per_s": rate for name, rate in parts.items()},
            "processor_ratio": (last.processor_s - first.processor_s) / span_s,
            "window_s": span_s,
        }

    def document(self) -> dict[str, Any]:
        """Rates rounded for reading; `total` is of edges that answered lately."""
        edges = {e: r for e in sorted(self._samples) if (r := self.edge_rates(e)) is not None}
        names = ("bytes_per_s", "processor_ratio")
        return {
            "total": {n: round(sum(r[n] for r in edges.values()), 4) for n in names},
            "edges": [
                {"edge": edge, **{name: round(value, 4) for name, value in rates.items()}}
                for edge, rates in edges.items()
            ],
            "unreachable": sorted(self.unreachable),
            "spent_bytes": sum(s[-1].wire_bytes for s in self._samples.values() if s),
        }

    def _learn(self, first: EdgeSpent, user: UserSpent) -> None:
        before = next((u for u in first.users if u.ue_id == user.ue_id), None)
        datagrams = user.datagrams - (before.datagrams if before else 0)
        if datagrams > 0:
            size = user.wire_bytes - (before.wire_bytes if before else 0)
            self._report_bytes[user.ue_id] = size / datagrams


def _naming(samples: Iterable[EdgeSpent], ue_id: str) -> list[tuple[int, int]]:
    """When, and the user's wire bytes by then."""
    return [(s.at_ns, u.wire_bytes) for s in samples for u in s.users if u.ue_id == ue_id]


def _steady_bytes_per_s(rates: Mapping[str, float]) -> float:
    """Aggregates go on as they do.  Orders and moves come in bursts (everybody is told after a
    budget's first step): what one has cost is a whole window's, also while that is young."""
    share = min(1.0, rates["window_s"] * 1e9 / WINDOW_NS)
    bursts = rates["order_bytes_per_s"] + rates["move_bytes_per_s"]
    return rates["aggregate_bytes_per_s"] + share * bursts
