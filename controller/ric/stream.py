"""The stream: events to whoever subscribed, as NDJSON over HTTP.

A slow consumer loses its own oldest events, counted, and delays nobody: publishing
never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

Event = dict[str, Any]
Rewrite = Callable[[Event], Event | None]

KINDS = ("cell", "slice", "user", "decision", "policy")
QUEUE_EVENTS = 256
SUBSCRIPTIONS_MAX = 256


@dataclass(frozen=True)
class Filter:
    """`twin_id` None: all of the kind.  At most one event per `period_ms` and id (0: every)."""

    kind: str = "cell"
    twin_id: str | None = None
    period_ms: int = 0


@dataclass(eq=False)
class Subscription:
    """One consumer; `rewrite` changes what it sees (access, placebo), None: not this event."""

    consumer: str
    wanted: Filter
    rewrite: Rewrite | None = None
    dropped: int = 0
    delivered: int = 0
    _lines: deque[bytes] = field(default_factory=deque)
    _sent_at_ns: dict[str, int] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: bool = False

    def offer(self, event: Event, line: bytes, now_ns: int) -> None:
        if event["kind"] != self.wanted.kind:
            return
        event_id = str(event["id"])
        if self.wanted.twin_id not in (None, event_id):
            return
        if self.rewrite is not None:
            rewritten = self.rewrite(event)
            if rewritten is None:
                return
            if rewritten is not event:
                line = encode(rewritten)
        if self.wanted.period_ms:
            last_ns = self._sent_at_ns.get(event_id, 0)
            # 5 % of grace, or a period equal to the twins' would skip events at jitter.
            if now_ns - last_ns < self.wanted.period_ms * 950_000:
                return
            self._sent_at_ns[event_id] = now_ns
        if len(self._lines) >= QUEUE_EVENTS:
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._changed.set()

    @property
    def waiting(self) -> int:
        """Events that its consumer was not sent yet."""
        return len(self._lines)

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """Until closed; each item is one event and its newline."""
        while not self._closed:
            while self._lines:
                self.delivered += 1
                yield self._lines.popleft()
            self._changed.clear()
            if not self._lines and not self._closed:
                await self._changed.wait()


class StreamHub:
    """All subscriptions of the moment."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self.dropped_by_ended = 0
        self.listeners: list[Callable[[Event], None]] = []
        """Of the RIC itself: called with every event, in order; they must be quick."""

    def subscribe(self, subscription: Subscription) -> None:
        """ValueError when there are `SUBSCRIPTIONS_MAX` already."""
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise ValueError(f"{SUBSCRIPTIONS_MAX} streams are open already")
        self._subscriptions.append(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self.dropped_by_ended += subscription.dropped

    @property
    def subscriptions(self) -> list[Subscription]:
        return list(self._subscriptions)

    @property
    def dropped(self) -> int:
        return self.dropped_by_ended + sum(s.dropped for s in self._subscriptions)

    def publish(self, event: Event, now_ns: int) -> None:
        for listener in self.listeners:
            listener(event)
        if self._subscriptions:
            line = encode(event)
            for subscription in self._subscriptions:
                subscription.offer(event, line, now_ns)

    def close(self, consumer: str | None = None) -> None:
        """Ends the streams of one consumer, or all."""
        for subscription in self.subscriptions:
            if consumer in (None, subscription.consumer):
                subscription.close()


def encode(event: Event) -> bytes:
    return orjson.dumps(event) + b"\n"
