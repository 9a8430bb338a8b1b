"""Whether a service's move served its users: their requests' latency, before and after.

A service that moves ahead of a handover changes nothing at once, so what is compared is the
latency measured after the move with what the same requests would have met without it: the
old place's own share, measured before, plus the way from where each user then was.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median

from controller.contracts.decisions import DecisionRecord, Effect
from controller.contracts.inventory import Inventory, SwitchRole
from controller.ric.judgement import Judgement
from controller.ric.request_effects import Row, Window

AFTER_NS = 6_000_000_000
TOLERANCE_MS, TOLERANCE_RATIO = 1.0, 0.1


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


def judge_migration(
    source: str,
    before: Sequence[Row],
    after: Sequence[Row],
    cell_of: Callable[[str, int], str],
    way_ms: Mapping[tuple[str, str], float],
) -> Judgement:
    """Verified: its users were served sooner than they would have been; refuted: later."""

    def way(row: Row, host: str) -> float:
        return way_ms[cell_of(row["ue_id"], row["sent_ns"]), host]

    own_ms = [r["latency_ms"] - way(r, source) for r in before if r["latency_ms"]]
    answered = [r for r in after if r["latency_ms"] is not None]
    detail: dict[str, object] = {
        "requests_before": len(before),
        "requests_after": len(after),
        "lost_after": len(after) - len(answered),
    }
    if not own_ms or not answered:
        return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": "too few requests to tell"})
    measured_ms = fmean(r["latency_ms"] for r in answered)
    unmoved_ms = fmean(median(own_ms) + way(r, source) for r in answered)
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


class MigrationJudge:
    """Makes the windows of moves. `whereabouts` is kept by whoever hands users over."""

    def __init__(self, inventory: Inventory, attachments: Mapping[str, str]) -> None:
        self.whereabouts = Whereabouts(attachments)
        self._way_ms = ways_ms(inventory)

    def window(self, record: DecisionRecord) -> Window:
        source, hops_ns = record.effect_detail["source"], record.hops_ns

        def judge(before: Sequence[Row], after: Sequence[Row]) -> Judgement:
            return judge_migration(source, before, after, self.whereabouts.cell, self._way_ms)

        begun_ns, confirmed_ns = hops_ns["guarded"], hops_ns["confirmed"]
        until_ns = confirmed_ns + AFTER_NS
        service = record.target["service"]
        return Window(record.decision_id, service, begun_ns, confirmed_ns, until_ns, judge)


def judge_offload(ue_id: str, before: Sequence[Row], after: Sequence[Row]) -> Judgement:
    """Verified: the user's requests were served sooner than before; refuted: later, or more were
    lost. Nothing else is known to have changed in such a short time."""
    own = [[r for r in rows if r["ue_id"] == ue_id] for rows in (before, after)]
    answered = [[r["latency_ms"] for r in rows if r["latency_ms"] is not None] for rows in own]
    lost = [len(rows) - len(those) for rows, those in zip(own, answered, strict=True)]
    detail: dict[str, object] = {
        "requests_before": len(own[0]),
        "requests_after": len(own[1]),
        "lost_before": lost[0],
        "lost_after": lost[1],
    }
    if not answered[0] or not own[1]:
        return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": "too few requests to tell"})
    if lost[1] > lost[0] or not answered[1]:
        return Judgement(Effect.REFUTED, {**detail, "reason": "more requests were lost"})
    before_ms, after_ms = fmean(answered[0]), fmean(answered[1])
    detail |= {"latency_before_ms": before_ms, "latency_after_ms": after_ms}
    tolerance_ms = max(TOLERANCE_MS, TOLERANCE_RATIO * before_ms)
    if after_ms < before_ms - tolerance_ms:
        return Judgement(Effect.VERIFIED, detail)
    if after_ms > before_ms + tolerance_ms:
        return Judgement(Effect.REFUTED, detail)
    return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": "it made no difference"})


OFFLOAD_AFTER_NS = 3_000_000_000


def offload_window(record: DecisionRecord) -> Window:
    ue_id, service = record.target["ue_id"], record.target["service"]

    def judge(before: Sequence[Row], after: Sequence[Row]) -> Judgement:
        return judge_offload(ue_id, before, after)

    begun_ns, confirmed_ns = record.hops_ns["guarded"], record.hops_ns["confirmed"]
    until_ns = confirmed_ns + OFFLOAD_AFTER_NS
    return Window(record.decision_id, service, begun_ns, confirmed_ns, until_ns, judge)
