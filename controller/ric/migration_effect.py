"""Whether a service's move served its users: their requests' latency, before and after.

A service that moves ahead of a handover changes nothing at once, so what is compared is the
latency measured after the move with what the same requests would have met without it: the
old place's own share, measured before, plus the way from where each user then was.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from controller.contracts.decisions import DecisionRecord, Effect
from controller.contracts.inventory import Inventory, SwitchRole
from controller.contracts.rpc import RpcError
from controller.ric.judgement import Judgement

BEFORE_NS = 3_000_000_000
AFTER_NS = 6_000_000_000
SHORTEST_NS = 1_000_000_000
SETTLE_NS = 1_200_000_000
"""After a window, until the last of its requests was answered or given up."""
TOLERANCE_MS, TOLERANCE_RATIO = 1.0, 0.1

Row = Mapping[str, Any]
"""`ue_id`, `sent_ns`, `latency_ms` (None: lost)."""
RequestsOf = Callable[[str, int, int], Awaitable[Sequence[Row]]]
"""(service, since_ns, until_ns) -> its users' requests. Raises `RpcError`."""
Finished = Callable[[str, Effect, dict[str, Any]], None]


class Whereabouts:
    """Which cell served a user when."""

    def __init__(self, now: Mapping[str, str]) -> None:
        self._stays: dict[str, list[tuple[int, str]]] = {u: [(0, c)] for u, c in now.items()}

    def moved(self, ue_id: str, cell_id: str, at_ns: int) -> None:
        self._stays.setdefault(ue_id, []).append((at_ns, cell_id))
        del self._stays[ue_id][:-64]

    def cell(self, ue_id: str, at_ns: int) -> str:
        stays = self._stays[ue_id]
        return next((c for since, c in reversed(stays) if since <= at_ns), stays[0][1])


def ways_ms(inventory: Inventory) -> dict[tuple[str, str], float]:
    """(cell, server) -> there and back by configured delays, on the quickest way."""
    air = {s.name for s in inventory.switches if s.role is SwitchRole.AIR}
    delay_ms = {(p.switch, p.peer): p.delay_ms for p in inventory.ports}
    found: dict[tuple[str, str], float] = {}
    for cell in inventory.cells:
        seen: dict[str, float] = {}
        waiting = [(0.0, cell.switch)]
        while waiting:
            so_far_ms, place = heapq.heappop(waiting)
            if place in seen or place in air:
                continue
            seen[place] = so_far_ms
            for (switch, peer), further_ms in delay_ms.items():
                if switch == place:
                    heapq.heappush(waiting, (so_far_ms + further_ms, peer))
        found |= {(cell.cell_id, place): 2 * ms for place, ms in seen.items()}
    return found


@dataclass(frozen=True)
class WatchedMigration:
    decision_id: str
    service: str
    source: str
    target: str
    begun_ns: int
    confirmed_ns: int
    until_ns: int
    """End of its window: `AFTER_NS` on, or when the service began to move again."""


def judge_migration(
    watched: WatchedMigration,
    before: Sequence[Row],
    after: Sequence[Row],
    cell_of: Callable[[str, int], str],
    way_ms: Mapping[tuple[str, str], float],
) -> Judgement:
    """Verified: its users were served sooner than they would have been; refuted: later."""

    def way(row: Row, host: str) -> float:
        return way_ms[cell_of(row["ue_id"], row["sent_ns"]), host]

    own_ms = [r["latency_ms"] - way(r, watched.source) for r in before if r["latency_ms"]]
    answered = [r for r in after if r["latency_ms"] is not None]
    detail: dict[str, object] = {
        "requests_before": len(before),
        "requests_after": len(after),
        "lost_after": len(after) - len(answered),
    }
    if not own_ms or not answered:
        return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": "too few requests to tell"})
    measured_ms = fmean(r["latency_ms"] for r in answered)
    unmoved_ms = fmean(median(own_ms) + way(r, watched.source) for r in answered)
    detail |= {
        "latency_before_ms": fmean(r["latency_ms"] for r in before if r["latency_ms"]),
        "latency_after_ms": measured_ms,
        "latency_unmoved_ms": unmoved_ms,
    }
    tolerance_ms = max(TOLERANCE_MS, TOLERANCE_RATIO * unmoved_ms)
    if measured_ms < unmoved_ms - tolerance_ms:
        return Judgement(Effect.VERIFIED, detail)
    if measured_ms > unmoved_ms + tolerance_ms:
        return Judgement(Effect.REFUTED, detail)
    reason = "its users were where the move makes no difference"
    return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": reason})


class MigrationWatch:
    """Moves whose effect is open; `advance` is called now and then."""

    def __init__(
        self, inventory: Inventory, attachments: Mapping[str, str], requests: RequestsOf,
        finished: Finished,
    ) -> None:  # fmt: skip
        self.whereabouts = Whereabouts(attachments)
        self._way_ms = ways_ms(inventory)
        self._requests = requests
        self._finished = finished
        self._open: dict[str, WatchedMigration] = {}
        """By service: a service has one at a time."""
        self._ended: list[WatchedMigration] = []
        """Their service moved on; their window is over."""

    @property
    def open_count(self) -> int:
        return len(self._open) + len(self._ended)

    def begin(self, record: DecisionRecord) -> None:
        """Watch an applied move; one of the same service that is open ends with it."""
        cost, hops_ns = record.effect_detail, record.hops_ns
        watched = WatchedMigration(
            record.decision_id,
            record.target["service"],
            cost["source"],
            cost["target"],
            hops_ns["guarded"],
            hops_ns["confirmed"],
            hops_ns["confirmed"] + AFTER_NS,
        )
        if (earlier := self._open.get(watched.service)) is not None:
            self._ended.append(replace(earlier, until_ns=min(earlier.until_ns, watched.begun_ns)))
        self._open[watched.service] = watched

    async def advance(self, now_ns: int) -> None:
        for watched in [*self._ended, *self._open.values()]:
            if now_ns >= watched.until_ns + SETTLE_NS:
                await self._judge(watched, watched.until_ns)
                if watched in self._ended:
                    self._ended.remove(watched)
                elif self._open.get(watched.service) == watched:
                    del self._open[watched.service]

    async def _judge(self, watched: WatchedMigration, until_ns: int) -> None:
        if until_ns - watched.confirmed_ns < SHORTEST_NS:
            reason = "the service moved again before its users could be measured"
            self._finished(watched.decision_id, Effect.NOT_EXERCISED, {"reason": reason})
            return
        since_ns = watched.begun_ns - BEFORE_NS
        try:
            before = await self._requests(watched.service, since_ns, watched.begun_ns)
            after = await self._requests(watched.service, watched.confirmed_ns, until_ns)
        except RpcError as error:
            detail = {"reason": f"requests cannot be read: {error}"}
            self._finished(watched.decision_id, Effect.NOT_EXERCISED, detail)
            return
        seen = judge_migration(watched, before, after, self.whereabouts.cell, self._way_ms)
        self._finished(watched.decision_id, seen.effect, seen.detail)
