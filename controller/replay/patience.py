"""When the xApps have done with what they were shown: the next of it may come then, not before.

At many times real time, or on a busy machine, an xApp that is still thinking would find its
events old and decide otherwise than in the next replay.  An xApp that the replay started is done
when its stream is written, no request of its is open, and all its threads sleep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

PATIENCE_S = 2.0
"""An xApp that never sleeps is not waited for longer."""
LOOK_AGAIN_S = 0.001
BUSY_STATES = "RD"
"""Running or runnable, and waiting for a page or a disk (`proc(5)`)."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class OpenRequests:
    """An ASGI application that counts the requests it has not answered yet, streams left out."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith("/stream"):
            await self._application(scope, receive, send)
            return
        self.count += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self.count -= 1


def sleeps(pid: int) -> bool:
    """Whether no thread of the process wants to run; one that is gone sleeps for good."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        states = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in threads]
    except (OSError, IndexError):
        return True
    return not any(state in BUSY_STATES for state in states)


async def until_done(
    pids: Callable[[], Iterable[int]], is_written: Callable[[], bool], requests: OpenRequests
) -> bool:
    """False when patience ended first.  Seen done twice: what was just woken runs by then."""
    patient_until_s = time.monotonic() + PATIENCE_S
    seen = 0
    while seen < 2:
        await asyncio.sleep(LOOK_AGAIN_S)
        is_done = is_written() and requests.count == 0 and all(sleeps(pid) for pid in pids())
        seen = seen + 1 if is_done else 0
        if time.monotonic() > patient_until_s:
            return False
    return True
