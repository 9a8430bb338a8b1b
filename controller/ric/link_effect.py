"""Whether a user's radio carries what a decided scheme promises: packets at its port after
`adapt_link`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from controller.contracts.decisions import DecisionRecord, Effect
from controller.contracts.radio_port import RadioPort, WayCount
from controller.contracts.rpc import RpcError
from controller.ric.judgement import RATE_TOLERANCE_RATIO, Judgement, combined

WINDOW_MS = 2000
BURST_MS, BURST_FLOOR_BYTES = 10, 6000
"""What the radio may send at once beyond its rate: its bucket."""

ReadPort = Callable[[str], Awaitable[RadioPort]]
"""ue_id -> its radio port now. Raises `RpcError`."""
Finished = Callable[[str, Effect, dict[str, Any]], None]


@dataclass(frozen=True)
class WatchedLink:
    """`before_kbps`: by way, what the scheme in use before let through."""

    decision_id: str
    ue_id: str
    before_kbps: Mapping[str, float]
    ports: tuple[RadioPort, ...] = ()
    """Read since it was confirmed, oldest first."""


@dataclass(frozen=True)
class Carried:
    """Spans of time of one way, added up. L2 bytes.

    `least_bytes`, `most_bytes`: what the radio had to carry and could, at the rates at the
    spans' ends.
    """

    duration_ms: float = 0.0
    sent_bytes: int = 0
    sent_packets: int = 0
    dropped_packets: int = 0
    least_bytes: float = 0.0
    most_bytes: float = 0.0

    def plus(self, start: WayCount, end: WayCount) -> Carried:
        duration_ms = (end.taken_at_ns - start.taken_at_ns) / 1e6
        slow_kbps, quick_kbps = sorted((start.rate_kbps, end.rate_kbps))
        return Carried(
            self.duration_ms + duration_ms,
            self.sent_bytes + end.sent_bytes - start.sent_bytes,
            self.sent_packets + end.sent_packets - start.sent_packets,
            self.dropped_packets + end.dropped_packets - start.dropped_packets,
            self.least_bytes + slow_kbps * duration_ms / 8,
            self.most_bytes + quick_kbps * duration_ms / 8,
        )

    @property
    def sent_kbps(self) -> float:
        return self.sent_bytes * 8 / self.duration_ms if self.duration_ms else 0.0

    def exceeds(self, allowed_bytes: float) -> bool:
        """More than that, by more than the tolerance and a full bucket."""
        bucket_bytes = max(BURST_FLOOR_BYTES, allowed_bytes * BURST_MS / self.duration_ms)
        return self.sent_bytes > allowed_bytes * (1 + RATE_TOLERANCE_RATIO) + bucket_bytes

    @property
    def falls_short(self) -> bool:
        return self.sent_bytes < self.least_bytes * (1 - RATE_TOLERANCE_RATIO)


def judge_way(before_kbps: float, counts: Sequence[WayCount]) -> Judgement:
    """Exercised: packets waited for the radio (at both ends of a span between two readings), or
    more came through than the scheme before could carry.

    Verified: while packets waited, the radio carried its rate, within 5 % and its bucket.
    Refuted: it carried more at any time, or less while packets waited and were dropped.
    """
    spans = list(pairwise(counts))
    whole = waiting = Carried()
    for start, end in spans:
        whole = whole.plus(start, end)
        if start.waiting_packets and end.waiting_packets:
            waiting = waiting.plus(start, end)
    now_kbps = (whole.least_bytes + whole.most_bytes) / 2 * 8 / whole.duration_ms
    packets = whole.sent_packets + whole.dropped_packets
    detail: dict[str, object] = {
        "before_kbps": round(before_kbps, 1),
        "promised_kbps": round(now_kbps, 1),
        "delivered_kbps": round(whole.sent_kbps, 1),
        "loss_ratio": round(whole.dropped_packets / packets, 4) if packets else 0.0,
        "window_ms": round(whole.duration_ms),
        "waited_ms": round(waiting.duration_ms),
    }

    def judged(effect: Effect, reason: str) -> Judgement:
        return Judgement(effect, {"effect": effect.value, **detail, "reason": reason})

    if whole.exceeds(whole.most_bytes):
        return judged(Effect.REFUTED, "more went through than the scheme carries")
    if abs(now_kbps - before_kbps) <= RATE_TOLERANCE_RATIO * before_kbps:
        return judged(Effect.NOT_EXERCISED, "the channel, not the scheme, decides: the same rate")
    if waiting.duration_ms:
        if not waiting.falls_short:
            return judged(Effect.VERIFIED, "packets waited, and what the scheme carries went")
        if waiting.dropped_packets:
            return judged(Effect.REFUTED, "packets were dropped, and less than it carries went")
    once = (Carried().plus(start, end) for start, end in spans)
    if any(span.exceeds(before_kbps * span.duration_ms / 8) for span in once):
        return judged(Effect.VERIFIED, "more went through than the scheme before carries")
    return judged(Effect.NOT_EXERCISED, "demand did not reach what the slower scheme carries")


def judge_link(watched: WatchedLink) -> Judgement | None:
    """Both ways; None while the window is open."""
    if len(watched.ports) < 2:
        return None
    first, last = watched.ports[0], watched.ports[-1]
    if last.down.taken_at_ns - first.down.taken_at_ns < WINDOW_MS * 1e6:
        return None
    ways = {
        "down": judge_way(watched.before_kbps["down"], [p.down for p in watched.ports]),
        "up": judge_way(watched.before_kbps["up"], [p.up for p in watched.ports]),
    }
    effect = combined(way.effect for way in ways.values())
    return Judgement(effect, {"ways": {name: way.detail for name, way in ways.items()}})


class LinkWatch:
    """Links whose effect is open; `advance` is called now and then."""

    def __init__(self, read: ReadPort, finished: Finished) -> None:
        self._read = read
        self._finished = finished
        self._open: dict[str, WatchedLink] = {}
        """By user."""

    @property
    def open_count(self) -> int:
        return len(self._open)

    def watch(self, record: DecisionRecord) -> None:
        """An applied `adapt_link`; ends an open one of the same user."""
        ue_id = record.target["ue_id"]
        self.end(ue_id, "adapted anew before it could be measured")
        before_kbps = record.effect_detail["before_kbps"]
        self._open[ue_id] = WatchedLink(record.decision_id, ue_id, before_kbps)

    def end(self, ue_id: str, reason: str) -> None:
        """What is open of this user can no longer be measured."""
        if (earlier := self._open.pop(ue_id, None)) is not None:
            self._finished(earlier.decision_id, Effect.NOT_EXERCISED, {"reason": reason})

    async def advance(self) -> None:
        await asyncio.gather(*(self._look(watched) for watched in list(self._open.values())))

    async def _look(self, watched: WatchedLink) -> None:
        try:
            port = await self._read(watched.ue_id)
        except RpcError as error:
            port = None
            reason = f"the radio port cannot be read: {error}"
        if self._open.get(watched.ue_id) is not watched:
            return  # decided anew, or handed over, while it was read
        if port is None:
            self.end(watched.ue_id, reason)
            return
        watched = replace(watched, ports=(*watched.ports, port))
        self._open[watched.ue_id] = watched
        seen = judge_link(watched)
        if seen is not None:
            del self._open[watched.ue_id]
            self._finished(watched.decision_id, seen.effect, seen.detail)
