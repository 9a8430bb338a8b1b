"""What a forecast reads of one user: its last positions and demands, on an even time grid.

Reports come at the user's own period; models want theirs.  Pure, no clock.  Columns of
plain numbers: a tenth of the memory of objects, and what numpy reads directly.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from controller.contracts.twin_messages import UserReport

KEPT_S = 14.0
"""A little more than the longest history a model reads (10 s)."""

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
    """A user's samples, oldest first: time, place, and the demand of each service downlink."""

    __slots__ = ("_at_ns", "_demand_kbps", "_x_m", "_y_m", "services")

    def __init__(self) -> None:
        self._at_ns = array("q")
        self._x_m, self._y_m = array("d"), array("d")
        self._demand_kbps: dict[str, array[float]] = {}
        self.services: tuple[str, ...] = ()
        """Those the newest report names."""

    def __len__(self) -> int:
        return len(self._at_ns)

    @property
    def newest_at_ns(self) -> int:
        """IndexError while there is none."""
        return self._at_ns[-1]

    def last_kbps(self, service: str) -> float:
        return self._demand_kbps[service][-1]

    def add(self, report: UserReport) -> None:
        """Demands in single precision (a part in 16 million).

        A report without a place is where the last one was; before any place it is left out."""
        place_m = report.position_m
        if place_m is None:
            if not self._at_ns:
                return  # a model that asks for it rarely, and not yet
            place_m = (self._x_m[-1], self._y_m[-1])
        demand, columns = downlink_kbps(report), self._demand_kbps
        if not columns.keys() >= demand.keys():
            for service in demand.keys() - columns.keys():
                columns[service] = array("f", bytes(4 * len(self)))
        self._at_ns.append(report.measured_at_ns)
        self._x_m.append(place_m[0])
        self._y_m.append(place_m[1])
        for service, column in columns.items():
            column.append(demand.get(service, 0.0))
        if len(self.services) != len(demand) or not demand.keys() >= {*self.services}:
            self.services = _shared(tuple(sorted(demand)))
        self._forget_before(report.measured_at_ns - round(KEPT_S * 1e9))

    def _forget_before(self, at_ns: int) -> None:
        old = 0
        while self._at_ns[old] < at_ns:
            old += 1
        if not old:
            return
        del self._at_ns[:old]
        for column in (self._x_m, self._y_m, *self._demand_kbps.values()):
            del column[:old]
        for service in self._demand_kbps.keys() - set(self.services):
            if not any(self._demand_kbps[service]):
                del self._demand_kbps[service]

    def grid_ns(self, step_s: float, count: int) -> FloatArray:
        """`count` times, the last one the newest sample's."""
        return np.asarray(self._at_ns[-1] - _ahead_ns(step_s, count), dtype=np.float64)

    def positions_m(self, step_s: float, count: int) -> FloatArray:
        """[count, 2], interpolated; before the first sample the user stood there."""
        at, grid = np.array(self._at_ns, dtype=np.float64), self.grid_ns(step_s, count)
        return np.stack([np.interp(grid, at, column) for column in (self._x_m, self._y_m)], axis=1)

    def demands_kbps(self, services: Sequence[str], step_s: float, count: int) -> FloatArray:
        """[service, count]: the newest report by then, as it was; before the first, the first."""
        at = np.array(self._at_ns, dtype=np.float64)
        place = np.searchsorted(at, self.grid_ns(step_s, count) + 1, side="right") - 1
        demand = np.array([self._demand_kbps[s] for s in services], dtype=np.float64)
        return np.asarray(demand[:, np.maximum(place, 0)])
