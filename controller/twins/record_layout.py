"""Rows of numbers as records of as many bits as they need, in decimal steps.  Pure.

What agents round to 3 decimals is a whole number of thousandths within some range: the row of
a report with four flows is about 50 bytes.  Nothing is lost: a column that is made of no
decimal steps is stored as it is.  Layouts are shared by all rows of the same columns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, compress
from operator import lshift, mul, rshift, sub, truediv

TIMES = struct.Struct("<2q")
"""Sequence number and time of measurement: the head of a row; doubles follow."""
_INTEGERS = 2
_STEPS = (1, 10, 100, 1000, 10**4, 10**5, 10**6)
PLAIN = 0
"""Instead of a step: a column of doubles as they are."""
_WIDEST_BITS = 64


@lru_cache(maxsize=1024)
def _row_struct(double_count: int) -> struct.Struct:
    return struct.Struct(f"<2q{double_count}d")


def row_packer(double_count: int) -> Callable[..., bytes]:
    """(sequence, measured_at_ns, *doubles) -> row."""
    return _row_struct(double_count).pack


class Layout:
    """`steps` [column of doubles]: of 1, or `PLAIN`; `bases` and `bits`: least and range of the
    integers and of each column in steps, in its steps.  Immutable."""

    __slots__ = (
        "_are_stepped", "_are_plain", "_bit_bytes", "_masks", "_plain", "_row", "_shifts",
        "_steps", "bases", "bits", "record_bytes", "steps",
    )  # fmt: skip

    def __init__(self, steps: Sequence[int], bases: Sequence[int], bits: Sequence[int]) -> None:
        self.steps, self.bases, self.bits = tuple(steps), tuple(bases), tuple(bits)
        self._row = _row_struct(len(steps))
        self._are_stepped = tuple(s != PLAIN for s in steps)
        self._are_plain = tuple(s == PLAIN for s in steps)
        self._steps = tuple(compress(steps, self._are_stepped))
        self._plain = struct.Struct(f"<{sum(self._are_plain)}d")
        self._masks = tuple((1 << b) - 1 for b in bits)
        *shifts, total = accumulate(bits, initial=0)
        self._shifts = tuple(shifts)
        self._bit_bytes = (total + 7) // 8
        self.record_bytes = self._bit_bytes + self._plain.size

    def packed(self, row: bytes) -> bytes | None:
        """None: the row does not fit."""
        sequence, at_ns, *doubles = self._row.unpack(row)
        stepped = [*compress(doubles, self._are_stepped)] if self._plain.size else doubles
        scaled = [*map(round, map(mul, stepped, self._steps))]
        if [*map(truediv, scaled, self._steps)] != stepped:
            return None
        offsets = [*map(sub, (sequence, at_ns, *scaled), self.bases)]
        if any(map(rshift, offsets, self.bits)):  # what is left of a negative one is -1
            return None
        whole: int = sum(map(lshift, offsets, self._shifts))
        record = whole.to_bytes(self._bit_bytes, "little")
        if not self._plain.size:
            return record
        return record + self._plain.pack(*compress(doubles, self._are_plain))

    def row(self, record: bytes) -> bytes:
        """What `packed` was given."""
        whole = int.from_bytes(record[: self._bit_bytes], "little")
        sequence, at_ns, *scaled = (
            (whole >> shift & mask) + base
            for shift, mask, base in zip(self._shifts, self._masks, self.bases, strict=True)
        )
        stepped = map(truediv, scaled, self._steps)
        plain = iter(self._plain.unpack_from(record, self._bit_bytes))
        doubles = (next(stepped) if is_stepped else next(plain) for is_stepped in self._are_stepped)
        return self._row.pack(sequence, at_ns, *doubles)


def widened(layout: Layout | None, row: bytes) -> Layout:
    """For this row too.  Never more than 8 bytes a column, whatever somebody reports."""
    sequence, at_ns, *doubles = _row_struct((len(row) - TIMES.size) // 8).unpack(row)
    known = layout.steps if layout is not None else (1,) * len(doubles)
    ranges = iter(_ranges(layout) if layout is not None else ())
    bases, bits = [], []
    for number in (sequence, at_ns):
        low, high = next(ranges, (number, number))
        bases.append(min(low, number))
        bits.append((max(high, number) - bases[-1]).bit_length())
    steps = []
    for number, before in zip(doubles, known, strict=True):
        low_high = next(ranges, None) if before != PLAIN else None
        step = _step(number, before)
        if step != PLAIN:
            own = round(number * step)
            low, high = (own, own) if low_high is None else (x * (step // before) for x in low_high)
            base, width = min(low, own), (max(high, own) - min(low, own)).bit_length()
            if width <= _WIDEST_BITS:
                bases.append(base)
                bits.append(width)
            else:
                step = PLAIN
        steps.append(step)
    return Layout(steps, bases, bits)


def _ranges(layout: Layout) -> list[tuple[int, int]]:
    ends = ((1 << bits) - 1 for bits in layout.bits)
    return [(base, base + end) for base, end in zip(layout.bases, ends, strict=True)]


def _step(number: float, least: int) -> int:
    """The coarsest that loses nothing, not coarser than `least`."""
    if least == PLAIN:
        return PLAIN
    exact = (s for s in _STEPS if s >= least and round(number * s) / s == number)
    return next(exact, PLAIN)
