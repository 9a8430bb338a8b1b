"""Effects that users' requests to task services show: windows before and after, then a judge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.contracts.decisions import Effect
from controller.contracts.rpc import RpcError
from controller.ric.judgement import Judgement

BEFORE_NS = 3_000_000_000
SHORTEST_NS = 1_000_000_000
SETTLE_NS = 1_200_000_000
"""After a window, until the last of its requests was answered or given up."""

Row = Mapping[str, Any]
"""`ue_id`, `sent_ns`, `latency_ms` (None: lost)."""
RequestsOf = Callable[[str, int, int], Awaitable[Sequence[Row]]]
"""(service, since_ns, until_ns) -> its users' requests. Raises `RpcError`."""
Judge = Callable[[Sequence[Row], Sequence[Row]], Judgement]
"""(before, after) -> what they say."""
Finished = Callable[[str, Effect, dict[str, Any]], None]


@dataclass(frozen=True)
class Window:
    """`until_ns`: its end, or when a newer decision about the same thing began."""

    decision_id: str
    service: str
    begun_ns: int
    confirmed_ns: int
    until_ns: int
    judge: Judge


class RequestWatch:
    """Decisions whose effect is open; `advance` is called now and then."""

    def __init__(self, requests: RequestsOf, finished: Finished) -> None:
        self._requests = requests
        self._finished = finished
        self._open: dict[str, Window] = {}
        """By what was decided about: it has one window at a time."""
        self._ended: list[Window] = []
        """A newer decision began."""

    @property
    def open_count(self) -> int:
        return len(self._open) + len(self._ended)

    def watch(self, about: str, window: Window) -> None:
        """One of the same that is open ends with it."""
        if (earlier := self._open.get(about)) is not None:
            self._ended.append(replace(earlier, until_ns=min(earlier.until_ns, window.begun_ns)))
        self._open[about] = window

    async def advance(self, now_ns: int) -> None:
        for window in list(self._ended):
            if now_ns >= window.until_ns + SETTLE_NS:
                self._ended.remove(window)
                await self._judge(window)
        for about, window in list(self._open.items()):
            if now_ns >= window.until_ns + SETTLE_NS:
                del self._open[about]
                await self._judge(window)

    async def _judge(self, window: Window) -> None:
        if window.until_ns - window.confirmed_ns < SHORTEST_NS:
            reason = "it was decided anew before its users could be measured"
            self._finished(window.decision_id, Effect.NOT_EXERCISED, {"reason": reason})
            return
        since_ns = window.begun_ns - BEFORE_NS
        try:
            before = await self._requests(window.service, since_ns, window.begun_ns)
            after = await self._requests(window.service, window.confirmed_ns, window.until_ns)
        except RpcError as error:
            detail = {"reason": f"requests cannot be read: {error}"}
            self._finished(window.decision_id, Effect.NOT_EXERCISED, detail)
            return
        seen = window.judge(before, after)
        self._finished(window.decision_id, seen.effect, seen.detail)
