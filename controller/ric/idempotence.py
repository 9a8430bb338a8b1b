"""Idempotence by decision id: the same request again gets the same answer, once carried out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import orjson

from controller.ric.attempts import Attempt, Decided
from controller.ric.decision_log import RECORDS_KEPT, DecisionLog
from controller.ric.errors import Conflict
from controller.ric.rate_limits import RATE_RULES


def fingerprint(attempt: Attempt) -> bytes:
    """What a decision asks for, whoever repeats it and whenever."""
    content = [attempt.request.xapp, attempt.request.action, *attempt.intent.document]
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


class Idempotence:
    """Remembers as many ids as the log keeps records."""

    def __init__(self, log: DecisionLog) -> None:
        self._log = log
        self._contents: OrderedDict[str, bytes] = OrderedDict()
        self._in_progress: dict[str, asyncio.Future[Decided]] = {}

    async def once(
        self, attempt: Attempt, carry_out: Callable[[Attempt], Awaitable[Decided]]
    ) -> Decided:
        """`carry_out` for a new id, else the answer of before; `Conflict` on another content."""
        decision_id, content = attempt.decision_id, fingerprint(attempt)
        if self._contents.setdefault(decision_id, content) != content:
            raise Conflict(
                f"decision {decision_id} was already made with another content",
                "use a new decision_id for a new decision",
            )
        if len(self._contents) > RECORDS_KEPT:
            self._contents.popitem(last=False)
        if (running := self._in_progress.get(decision_id)) is not None:
            return await asyncio.shield(running)
        if (record := self._log.get(decision_id)) is not None:
            return Decided(record)
        task = asyncio.ensure_future(carry_out(attempt))
        self._in_progress[decision_id] = task
        try:
            # A caller that hangs up must not leave a change half made.
            decided = await asyncio.shield(task)
        finally:
            task.add_done_callback(lambda _: self._in_progress.pop(decision_id, None))
        if decided.rule in RATE_RULES:
            self._contents.pop(decision_id, None)
        return decided
