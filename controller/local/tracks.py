"""What a forecast reads of one user: its last positions and demands, on an even time grid.

Reports come at the user's own period; models want theirs.  Pure, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from controller.contracts.twin_messages import UserReport
from controller.local.pending import Pending
from controller.local.timed_rows import SAME_MS, FloatArray, TimedRows, shared

KEPT_S = 14.0
"""A little more than the longest history a model reads (10 s)."""
_KEPT_NS = round(KEPT_S * 1e9)


def downlink_kbps(report: UserReport) -> dict[str, float]:
    """Asked for, by service."""
    demand: dict[str, float] = {}
    for flow in report.flows:
        if not flow.up:
            demand[flow.service] = demand.get(flow.service, 0.0) + flow.demand_kbps
    return demand


@lru_cache
def _ahead_ms(step_s: float, count: int) -> FloatArray:
    return np.asarray(np.arange(count - 1, -1, -1) * step_s * 1e3, dtype=np.float64)


class Track:
    """A user's samples, oldest first: time, place, and the demand of each service downlink.

    Single precision: places to a part in 16 million of the distance from the first one.
    """

    __slots__ = ("_from_m", "_rows", "pending", "services")

    def __init__(self) -> None:
        self._rows: TimedRows[str] = TimedRows(2)
        """x and y in m from `_from_m`, then kbit/s by service."""
        self._from_m = (0.0, 0.0)
        self.services: tuple[str, ...] = ()
        """Those the newest report names."""
        self.pending = Pending()
        """What was forecast from it and is not judged yet."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def newest_at_ns(self) -> int:
        """IndexError while there is none."""
        return self._rows.newest_ns

    @property
    def place_m(self) -> tuple[float, float]:
        """The newest; IndexError while there is none."""
        newest = self._rows.newest
        return newest[0] + self._from_m[0], newest[1] + self._from_m[1]

    def last_kbps(self, service: str) -> float:
        """ValueError for a service that nobody asked for lately."""
        return self._rows.newest[2 + self._rows.names.index(service)]

    def highest_kbps(self, since_ns: float) -> dict[str, float]:
        """By service, of the reports after that; empty without one."""
        return self._rows.highest_after(since_ns)

    def add(self, report: UserReport) -> None:
        """A report without a place is where the last one was; before any place it is left out."""
        rows, place_m, at_ns = self._rows, report.position_m, report.measured_at_ns
        if place_m is None:
            if not rows.numbers:
                return  # a model that asks for it rarely, and not yet
            place_m = self.place_m
        rows.forget_before(at_ns - _KEPT_NS)
        if not rows.numbers:
            self._from_m = place_m
        demand = downlink_kbps(report)
        if rows.names != (named := tuple(demand)):
            self._change_services(named)
            demand = {service: demand.get(service, 0.0) for service in rows.names}
        from_x, from_y = self._from_m
        rows.append(at_ns, (place_m[0] - from_x, place_m[1] - from_y), demand.values())
        if len(self.services) != len(named) or not {*named} >= {*self.services}:
            self.services = shared(tuple(sorted(named)))

    def _change_services(self, named: tuple[str, ...]) -> None:
        """These, and those of others that were asked for lately."""
        rows = self._rows
        held = dict.fromkeys((*named, *(s for s in rows.names if rows.column(s).any())))
        if (names := shared(tuple(held))) != rows.names:
            rows.change_names(names)

    def positions_m(self, step_s: float, count: int) -> FloatArray:
        """[count, 2], interpolated; before the first sample the user stood there."""
        at, x, y = self._rows.matrix().T[:3]
        grid = at[-1] - _ahead_ms(step_s, count)
        found = np.stack([np.interp(grid, at, column) for column in (x, y)], axis=1)
        return np.asarray(found + self._from_m)

    def demands_kbps(self, services: Sequence[str], step_s: float, count: int) -> FloatArray:
        """[service, count]: the newest report by then, as it was; before the first, the first."""
        held = self._rows.matrix()
        grid = held[-1, 0] - _ahead_ms(step_s, count) + SAME_MS / 2
        place = np.searchsorted(held[:, 0], grid, side="right") - 1
        columns = [3 + self._rows.names.index(s) for s in services]
        return np.asarray(held[np.maximum(place, 0)][:, columns].T)
