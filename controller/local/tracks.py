"""What a forecast reads of one user: its last positions and demands, on an even time grid.

Reports come at the user's own period; models want theirs.  Pure, no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from controller.contracts.twin_messages import UserReport

KEPT_S = 14.0
"""A little more than the longest history a model reads (10 s)."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One report's share: `demand_kbps` of each service downlink."""

    at_ns: int
    position_m: tuple[float, float]
    demand_kbps: dict[str, float]


@dataclass
class Track:
    """A user's samples, oldest first."""

    samples: deque[Sample] = field(default_factory=deque)

    def add(self, report: UserReport) -> None:
        demand: dict[str, float] = {}
        for flow in report.flows:
            if not flow.up:
                demand[flow.service] = demand.get(flow.service, 0.0) + flow.demand_kbps
        place_m = report.position_m or (self.samples[-1].position_m if self.samples else None)
        if place_m is None:
            return  # a model that asks for it rarely, and not yet
        self.samples.append(Sample(report.measured_at_ns, place_m, demand))
        while report.measured_at_ns - self.samples[0].at_ns > KEPT_S * 1e9:
            self.samples.popleft()

    def grid_ns(self, step_s: float, count: int) -> FloatArray:
        """`count` times, the last one the newest sample's."""
        ahead = np.arange(count - 1, -1, -1) * step_s * 1e9
        return np.asarray(self.samples[-1].at_ns - ahead, dtype=np.float64)

    def positions_m(self, step_s: float, count: int) -> FloatArray:
        """[count, 2], interpolated; before the first sample the user stood there."""
        at = np.array([s.at_ns for s in self.samples], dtype=np.float64)
        where = np.array([s.position_m for s in self.samples])
        grid = self.grid_ns(step_s, count)
        return np.stack([np.interp(grid, at, where[:, i]) for i in (0, 1)], axis=1)

    def demands_kbps(self, service: str, step_s: float, count: int) -> FloatArray:
        """[count]: the newest report by then, as it was; before the first, the first."""
        at = np.array([s.at_ns for s in self.samples], dtype=np.float64)
        demand = np.array([s.demand_kbps.get(service, 0.0) for s in self.samples])
        place = np.searchsorted(at, self.grid_ns(step_s, count) + 1, side="right") - 1
        return np.asarray(demand[np.maximum(place, 0)])

    @property
    def services(self) -> list[str]:
        """Those the newest report names."""
        return sorted(self.samples[-1].demand_kbps)
