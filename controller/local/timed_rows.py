"""Numbers of one user over time: rows in single precision, oldest first.  Pure, no clock.

One array: a tenth of the memory of objects, one allocation a user, and what numpy reads
directly.  Times are kept in ms since the first row, whole ones exactly.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)

LONGEST_MS = 2.0**20
"""Beyond that times begin anew at the first row; so they are good to a 16th of a ms."""
SAME_MS = 1.0
"""No two reports are nearer."""


@lru_cache(maxsize=1024)
def shared(names: tuple[Name, ...]) -> tuple[Name, ...]:
    """The same object for equal names: users of the same services or slices share them."""
    return names


class TimedRows(Generic[Name]):
    """A row: its time, `fixed` numbers, one for each of `names`."""

    __slots__ = ("_begin_ns", "_first", "names", "numbers")

    def __init__(self, fixed: int) -> None:
        self.numbers = array("f")
        self.names: tuple[Name, ...] = ()
        self._begin_ns = 0
        self._first = 1 + fixed
        """Where in a row the named ones begin."""

    def __len__(self) -> int:
        return len(self.numbers) // self.width

    @property
    def width(self) -> int:
        return self._first + len(self.names)

    @property
    def newest_ns(self) -> int:
        """IndexError while there is none."""
        return self._begin_ns + round(self.numbers[-self.width] * 1e6)

    @property
    def newest(self) -> Sequence[float]:
        """The newest row without its time; empty while there is none."""
        return self.numbers[1 - self.width :]

    def append(self, at_ns: int, fixed: Iterable[float], named: Iterable[float]) -> None:
        """Newer than all; `named` in the order of `names`."""
        numbers = self.numbers
        if not numbers:
            self._begin_ns = at_ns
        elif at_ns - self._begin_ns > LONGEST_MS * 1e6:
            self._begin_anew()
        numbers.extend(((at_ns - self._begin_ns) / 1e6, *fixed, *named))

    def _begin_anew(self) -> None:
        """At the first row's whole millisecond, so that nothing is rounded again."""
        past_ms = int(self.numbers[0])
        for place in range(0, len(self.numbers), self.width):
            self.numbers[place] -= past_ms
        self._begin_ns += past_ms * 1_000_000

    def forget_before(self, at_ns: int) -> None:
        numbers, place, width = self.numbers, 0, self._first + len(self.names)
        oldest_ms, end = (at_ns - self._begin_ns) / 1e6, len(numbers)
        while place < end and numbers[place] < oldest_ms:
            place += width
        if place:
            del numbers[:place]

    def keep_newest(self, count: int) -> None:
        del self.numbers[: max(0, len(self.numbers) - count * self.width)]

    def change_names(self, names: tuple[Name, ...]) -> None:
        """What the past did not name was zero; what is not named any more is gone."""
        held = self.matrix()
        changed = np.zeros((len(held), self._first + len(names)), dtype=np.float32)
        changed[:, : self._first] = held[:, : self._first]
        for place, name in enumerate(self.names):
            if name in names:
                changed[:, self._first + names.index(name)] = held[:, self._first + place]
        self.names, self.numbers = names, array("f", changed.tobytes())

    def matrix(self) -> FloatArray:
        """[row, 1 + fixed + named], a copy: an array that lends its memory cannot grow.
        Times in ms since some moment."""
        return np.array(self.numbers, dtype=np.float64).reshape(-1, self.width)

    def times_ns(self) -> npt.NDArray[np.int64]:
        offsets_ms = np.array(self.numbers[:: self.width], dtype=np.float64)
        return self._begin_ns + np.rint(offsets_ms * 1e6).astype(np.int64)

    def column(self, name: Name) -> FloatArray:
        """Zeros of what is not named."""
        if name not in self.names:
            return np.zeros(len(self))
        place = self._first + self.names.index(name)
        return np.array(self.numbers[place :: self.width], dtype=np.float64)

    def highest_after(self, since_ns: float) -> dict[Name, float]:
        """Of the rows after that; empty without one."""
        numbers, width = self.numbers, self.width
        since_ms, first = (since_ns - self._begin_ns) / 1e6 + SAME_MS / 2, len(numbers)
        while first and numbers[first - width] > since_ms:
            first -= width
        if first == len(numbers):
            return {}
        later = numbers[first:]
        return {n: max(later[self._first + i :: width]) for i, n in enumerate(self.names)}
