"""Rows of numbers, packed: differences of whole decimal steps, by byte planes, compressed.

What agents round to 3 decimals is a whole number of thousandths, and neighbours in time
are near each other: the 24 numbers of a report become about 50 bytes.  Nothing is lost: a
column that is not made of decimal steps stays as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.signedinteger]

_TIMES = 2
"""64-bit integers at the head of a row; doubles follow."""
_STEPS = np.array([1.0, 10.0, 100.0, 1000.0, 1e4, 1e5, 1e6])
_AS_IT_IS = len(_STEPS)
_NO_VALUE = -(2**31)
"""Stands for NaN among steps."""
_COMPRESSION_LEVEL = 3
_WINDOW_BITS = -12
"""4 KiB; negative: without zlib's header and checksum, for it never leaves the process."""
_MEMORY_LEVEL = 5
_LIKELY: dict[int, Integers] = {}
"""By columns of a row: what they were made of last time.  Only a short cut: steps that lose
nothing are right, whether or not coarser ones would do."""
_LIKELY_MAX = 1000


def pack(rows: Sequence[bytes]) -> bytes:
    """Rows of equal length, each of two 64-bit integers and then doubles."""
    words = np.frombuffer(b"".join(rows), "<i8").reshape(len(rows), -1)
    numbers = words[:, _TIMES:].view("<f8")
    kinds, steps = _in_steps(numbers)
    stepped = kinds != _AS_IT_IS
    parts = (
        kinds.astype(np.uint8).tobytes(),
        _planes(words[:, :_TIMES]),
        _planes(steps[:, stepped]),
        np.ascontiguousarray(numbers[:, ~stepped]).tobytes(),
    )
    # Smaller than by default, as a block is: its buffers are 15 kB instead of 260.
    press = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    return press.compress(b"".join(parts)) + press.flush()


def unpack(packed: bytes, row_count: int, double_count: int) -> list[bytes]:
    """The rows that `pack` was given."""
    raw = zlib.decompress(packed, -15)  # whatever window it was made with
    kinds = np.frombuffer(raw, np.uint8, double_count)
    stepped = kinds != _AS_IT_IS
    step_count = int(stepped.sum())
    times_end = double_count + row_count * _TIMES * 8
    steps_end = times_end + row_count * step_count * 4
    words = np.empty((row_count, _TIMES + double_count), "<i8")
    words[:, :_TIMES] = _from_planes(raw[double_count:times_end], row_count, np.dtype("<i8"))
    steps = _from_planes(raw[times_end:steps_end], row_count, np.dtype("<i4"))
    values = steps / _STEPS[kinds[stepped]]
    values[steps == _NO_VALUE] = np.nan
    numbers = words[:, _TIMES:].view("<f8")
    numbers[:, stepped] = values
    numbers[:, ~stepped] = np.frombuffer(raw[steps_end:], "<f8").reshape(row_count, -1)
    return [row.tobytes() for row in words]


def _in_steps(numbers: Floats) -> tuple[Integers, Integers]:
    """Per column the index of a step that loses nothing, and [row, column] in it."""
    likely = _LIKELY.get(numbers.shape[1])
    if likely is not None:
        scaled = np.rint(numbers * _STEPS[likely])
        missing = np.isnan(numbers)
        exact = (scaled / _STEPS[likely] == numbers) & (np.abs(scaled) < -_NO_VALUE)
        if (exact | missing).all():
            scaled[missing] = _NO_VALUE
            return likely, scaled.astype("<i4")
    kinds, chosen = _in_coarsest_steps(numbers)
    if (kinds != _AS_IT_IS).all() and len(_LIKELY) < _LIKELY_MAX:
        _LIKELY[numbers.shape[1]] = kinds
    return kinds, chosen


def _in_coarsest_steps(numbers: Floats) -> tuple[Integers, Integers]:
    steps = _STEPS[:, None, None]
    scaled = np.rint(numbers * steps)
    exact = (scaled / steps == numbers) & (np.abs(scaled) < -_NO_VALUE)
    fits = (exact | np.isnan(numbers)).all(axis=1)
    kinds = np.where(fits.any(axis=0), fits.argmax(axis=0), _AS_IT_IS)
    chosen = scaled[np.minimum(kinds, _AS_IT_IS - 1), :, np.arange(numbers.shape[1])].T
    chosen = np.where(np.isnan(chosen) | (kinds == _AS_IT_IS), float(_NO_VALUE), chosen)
    return kinds, chosen.astype("<i4")


def _planes(integers: Integers) -> bytes:
    """Differences down each column (they wrap around), all low bytes first, then the next."""
    differences = integers.copy()
    differences[1:] -= integers[:-1]
    columns = np.ascontiguousarray(differences.T)
    width = integers.dtype.itemsize
    return columns.view(np.uint8).reshape(-1, width).T.tobytes()


def _from_planes(raw: bytes, row_count: int, kind: np.dtype[Any]) -> Integers:
    planes = np.frombuffer(raw, np.uint8).reshape(kind.itemsize, -1)
    columns = np.ascontiguousarray(planes.T).view(kind).reshape(-1, row_count)
    return np.cumsum(columns.T, axis=0, dtype=kind)
