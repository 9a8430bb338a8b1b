"""How much capacity was held for whom, over time. Pure.

A reservation holds from its change to the next change of the same (cell, slice, class).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from topologies.results.evidence import ReservationChange

FloatArray = npt.NDArray[np.float64]


def mean_reserved_kbps(
    changes: Iterable[ReservationChange],
    cells: Sequence[str],
    slice_id: int,
    start_ns: int,
    end_ns: int,
) -> float:
    """Time average over [start, end) of the slice's guaranteed rates, summed over `cells`."""
    if end_ns <= start_ns:
        raise ValueError(f"no time between {start_ns} and {end_ns}")
    return float(
        sum(
            _mean(history, start_ns, end_ns)
            for cell in cells
            for history in _histories(changes, cell, slice_id)
        )
    )


def reserved_kbps_by_window(
    changes: Sequence[ReservationChange], cell: str, slice_id: int, edges_ns: npt.NDArray[np.int64]
) -> FloatArray:
    """Time average in each window between consecutive `edges_ns`."""
    histories = _histories(changes, cell, slice_id)
    return np.array(
        [
            sum(_mean(history, int(start), int(end)) for history in histories)
            for start, end in itertools.pairwise(edges_ns)
        ],
        dtype=np.float64,
    )


def _histories(
    changes: Iterable[ReservationChange], cell: str, slice_id: int
) -> list[list[ReservationChange]]:
    """The changes of each class, in order of time."""
    classes: dict[str, list[ReservationChange]] = {}
    for change in changes:
        if change.cell_id == cell and change.slice_id == slice_id:
            classes.setdefault(change.traffic_class, []).append(change)
    return [sorted(history, key=lambda change: change.at_ns) for history in classes.values()]


def _mean(history: Sequence[ReservationChange], start_ns: int, end_ns: int) -> float:
    total = 0.0
    for index, change in enumerate(history):
        until_ns = history[index + 1].at_ns if index + 1 < len(history) else end_ns
        held_ns = min(until_ns, end_ns) - max(change.at_ns, start_ns)
        total += change.min_kbps * max(0, held_ns)
    return total / (end_ns - start_ns)
