"""What a forecast reads of one user: its last positions and demands, on an even time grid.

Reports come at the user's own period; models want theirs.  Pure, no clock.  Plain numbers:
a tenth of the memory of objects, and what numpy reads directly.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from controller.contracts.twin_messages import UserReport
from controller.local.pending import Pending

KEPT_S = 14.0
"""A little more than the longest history a model reads (10 s)."""
_KEPT_NS = round(KEPT_S * 1e9)
_HEAD = 3
"""Numbers of a row before the services': time and place."""

FloatArray = npt.NDArray[np.float64]


def downlink_kbps(report: UserReport) -> dict[str, float]:
    """Asked for, by service."""
    demand: dict[str, float] = {}
    for flow in report.flows:
        if not flow.up:
            demand[flow.service] = demand.get(flow.service, 0.0) + flow.demand_kbps
    return demand


@lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Users of the same services share their names."""
    return names


@lru_cache
def _ahead_ns(step_s: float, count: int) -> FloatArray:
    return np.asarray(np.arange(count - 1, -1, -1) * step_s * 1e9, dtype=np.float64)


class Track:
    """A user's samples, oldest first: rows of time, place, and the demand of each service downlink.

    One column of numbers, row by row: one append a report, and one allocation a user.
    """

    __slots__ = ("_columns", "_rows", "pending", "services")

    def __init__(self) -> None:
        self._rows = array("d")
        """Time in ns (to a quarter of a microsecond), x and y in m, kbit/s of `_columns`."""
        self._columns: tuple[str, ...] = ()
        self.services: tuple[str, ...] = ()
        """Those the newest report names."""
        self.pending = Pending()
        """What was forecast from it and is not judged yet."""

    def __len__(self) -> int:
        return len(self._rows) // self._width

    @property
    def _width(self) -> int:
        return _HEAD + len(self._columns)

    @property
    def newest_at_ns(self) -> int:
        """IndexError while there is none."""
        return int(self._rows[-self._width])

    @property
    def last_seen(self) -> tuple[float, tuple[float, float]]:
        """Time and place; ValueError while there is none."""
        width = self._width
        at_ns, x, y = self._rows[-width : _HEAD - width or None]
        return at_ns, (x, y)

    def last_kbps(self, service: str) -> float:
        return self._rows[self._columns.index(service) - len(self._columns)]

    def add(self, report: UserReport) -> None:
        """A report without a place is where the last one was; before any place it is left out."""
        rows, place_m = self._rows, report.position_m
        if place_m is None:
            if not rows:
                return  # a model that asks for it rarely, and not yet
            place_m = self.last_seen[1]
        at_ns, demand = report.measured_at_ns, downlink_kbps(report)
        if self._columns != (named := tuple(demand)):
            self._change_columns(named)
            rows = self._rows
            demand = {service: demand.get(service, 0.0) for service in self._columns}
        rows.extend((at_ns, *place_m, *demand.values()))
        if len(self.services) != len(named) or not {*named} >= {*self.services}:
            self.services = _shared(tuple(sorted(named)))
        self._forget_before(at_ns - _KEPT_NS)

    def _forget_before(self, at_ns: int) -> None:
        rows, old, width = self._rows, 0, _HEAD + len(self._columns)
        while rows[old] < at_ns:
            old += width
        if old:
            del rows[:old]

    def _change_columns(self, named: tuple[str, ...]) -> None:
        """These, and those of others that were asked for lately."""
        held = self._matrix()
        asked = [s for s, column in zip(self._columns, held.T[_HEAD:], strict=True) if column.any()]
        columns = _shared(tuple(dict.fromkeys((*named, *asked))))
        if columns == self._columns:
            return
        changed = np.zeros((len(held), _HEAD + len(columns)))
        changed[:, :_HEAD] = held[:, :_HEAD]
        for place, service in enumerate(self._columns):
            if service in columns:
                changed[:, _HEAD + columns.index(service)] = held[:, _HEAD + place]
        self._rows, self._columns = array("d", changed.tobytes()), columns

    def _matrix(self) -> FloatArray:
        """[sample, column], a copy: an array that lends its memory cannot grow."""
        return np.array(self._rows, dtype=np.float64).reshape(-1, self._width)

    def highest_kbps(self, since_ns: float) -> dict[str, float]:
        """By service, of the reports after that; empty without one."""
        rows, width = self._rows, self._width
        first = len(rows)
        while first and rows[first - width] > since_ns:
            first -= width
        if first == len(rows):
            return {}
        later = rows[first:]
        return {s: max(later[_HEAD + place :: width]) for place, s in enumerate(self._columns)}

    def grid_ns(self, step_s: float, count: int) -> FloatArray:
        """`count` times, the last one the newest sample's."""
        return np.asarray(self.newest_at_ns - _ahead_ns(step_s, count), dtype=np.float64)

    def positions_m(self, step_s: float, count: int) -> FloatArray:
        """[count, 2], interpolated; before the first sample the user stood there."""
        at, x, y = self._matrix().T[:_HEAD]
        grid = self.grid_ns(step_s, count)
        return np.stack([np.interp(grid, at, column) for column in (x, y)], axis=1)

    def demands_kbps(self, services: Sequence[str], step_s: float, count: int) -> FloatArray:
        """[service, count]: the newest report by then, as it was; before the first, the first."""
        held = self._matrix()
        place = np.searchsorted(held[:, 0], self.grid_ns(step_s, count) + 1, side="right") - 1
        columns = [_HEAD + self._columns.index(s) for s in services]
        return np.asarray(held[np.maximum(place, 0)][:, columns].T)
