"""Channels of the shared data layer for many listeners: one subscription to the store each.

The store's listener calls from a thread of its own; listeners wait on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from controller.store.sdl import Callback, Sdl

WAITING_MAX = 256
"""Events that a slow listener may be behind; the oldest are lost then."""

Place = tuple[str, str]
"""(namespace, channel)"""
Waiting = asyncio.Queue[tuple[str, list[str]] | None]


class Channels:
    def __init__(self, store: Sdl) -> None:
        self._store = store
        self._listeners: defaultdict[Place, set[Waiting]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.lost = 0

    async def subscribe(self, ns: str, channels: list[str]) -> Waiting:
        """Events from now on: (channel, events), None at the end.  Raises `SdlException`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._store.start_event_listener()
        waiting: Waiting = asyncio.Queue(WAITING_MAX)
        for channel in channels:
            listeners = self._listeners[ns, channel]
            is_first = not listeners
            listeners.add(waiting)
            if is_first:
                await asyncio.to_thread(
                    self._store.subscribe_channel, ns, self._heard(ns), [channel]
                )
        return waiting

    async def unsubscribe(self, ns: str, channels: list[str], waiting: Waiting) -> None:
        for channel in channels:
            self._listeners[ns, channel].discard(waiting)
            if not self._listeners[ns, channel]:
                await asyncio.to_thread(self._store.unsubscribe_channel, ns, [channel])

    def _heard(self, ns: str) -> Callback:
        def heard(channel: str, events: list[str]) -> None:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._hand_on, (ns, channel), events)

        return heard

    def _hand_on(self, place: Place, events: list[str]) -> None:
        for waiting in self._listeners.get(place, ()):
            if waiting.full():
                waiting.get_nowait()
                self.lost += 1
            waiting.put_nowait((place[1], events))

    def close(self) -> None:
        for listeners in self._listeners.values():
            for waiting in listeners:
                if waiting.full():
                    waiting.get_nowait()
                waiting.put_nowait(None)
