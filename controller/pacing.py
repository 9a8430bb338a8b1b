"""Long work in short slices, so that whatever shares the thread is served in between.

Ryu's green threads share one: a push of many thousand flows must not make the echoes
of other switches wait.  Knows neither Ryu nor eventlet: `pause` is given to it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

SLICE_S = 0.005
"""Several pushes at once each take a slice before an echo has its turn."""

T = TypeVar("T")


class Pace:
    """`pause` lets the others work and comes back; `now_s`: CLOCK_MONOTONIC."""

    def __init__(
        self,
        pause: Callable[[], None],
        now_s: Callable[[], float] = time.monotonic,
        slice_s: float = SLICE_S,
    ) -> None:
        self.pause = pause
        self._now_s = now_s
        self._slice_s = slice_s
        self._since_s = now_s()

    def breathe(self) -> None:
        """Give way if a slice of time is over."""
        if self._now_s() - self._since_s >= self._slice_s:
            self.pause()
            self._since_s = self._now_s()

    def drop(self, items: list[Any]) -> None:
        """Empty the list bit by bit: freeing a hundred thousand flows at once takes long, too."""
        while items:
            items.pop()
            self.breathe()

    def through(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a pause whenever a slice of time is over."""
        for item in items:
            yield item
            self.breathe()


class Uncollected:
    """While somebody is inside (`with`), no garbage is collected: with all objects of a large push
    alive, one collection takes longer than an echo may wait.  Those of them that are in no
    cycle go by themselves."""

    def __init__(self) -> None:
        self._inside = 0

    def begin(self) -> None:
        self._inside += 1
        gc.disable()

    def end(self) -> None:
        self._inside -= 1
        if not self._inside:
            gc.enable()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()
