"""What forecasts were worth: each compared with what was then reported, beside persistence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from controller.contracts.twin_messages import UserReport

PLACE_HORIZON_NS = 2_000_000_000
DEMAND_HORIZON_NS = 2_000_000_000
WAITING_PER_USER = 256


@dataclass
class Sum:
    """Absolute errors, summed: of the forecast and of persistence."""

    error: float = 0.0
    naive_error: float = 0.0
    samples: int = 0

    def add(self, error: float, naive_error: float) -> None:
        self.error += error
        self.naive_error += naive_error
        self.samples += 1

    def mean(self) -> float | None:
        return self.error / self.samples if self.samples else None

    def naive_mean(self) -> float | None:
        return self.naive_error / self.samples if self.samples else None


@dataclass(slots=True)
class _Demand:
    due_ns: int
    naive_kbps: float
    median_kbps: float
    highest_kbps: float = 0.0


@dataclass(slots=True)
class _Waiting:
    """Forecasts whose time has not come, oldest first; `last`: the newest report's time and place.

    Lists, not deques: they are short, and an empty deque holds 600 bytes.
    """

    places: list[tuple[int, tuple[float, float], tuple[float, float]]] = field(default_factory=list)
    demands: dict[str, list[_Demand]] = field(default_factory=dict)
    last: tuple[int, tuple[float, float]] | None = None


class Scores:
    """`place` in m, `demand` in kbit/s (maximum of the horizon, downlink, per service)."""

    def __init__(self) -> None:
        self.of_place = Sum()
        self.of_demand = Sum()
        self._waiting: dict[str, _Waiting] = {}

    def place(
        self,
        ue_id: str,
        origin_m: tuple[float, float],
        displacement_m: tuple[float, float],
        now_ns: int,
    ) -> None:
        """A forecast for `PLACE_HORIZON_NS` after the newest report."""
        waiting = self._of(ue_id)
        at_ns = waiting.last[0] if waiting.last else now_ns
        forecast = (origin_m[0] + displacement_m[0], origin_m[1] + displacement_m[1])
        waiting.places.append((at_ns + PLACE_HORIZON_NS, origin_m, forecast))
        del waiting.places[:-WAITING_PER_USER]

    def demand(
        self, ue_id: str, service: str, naive_kbps: float, median_kbps: float, now_ns: int
    ) -> None:
        waiting = self._of(ue_id)
        at_ns = waiting.last[0] if waiting.last else now_ns
        kept = waiting.demands.setdefault(service, [])
        kept.append(_Demand(at_ns + DEMAND_HORIZON_NS, naive_kbps, median_kbps))
        del kept[:-WAITING_PER_USER]

    def observe(self, report: UserReport) -> None:
        """The truth, as the user says: judges forecasts that are due by it."""
        waiting = self._of(report.ue_id)
        at_ns = report.measured_at_ns
        here_m = report.position_m or (waiting.last[1] if waiting.last else None)
        if here_m is None:
            return
        while waiting.places and waiting.places[0][0] <= at_ns:
            due_ns, origin_m, forecast_m = waiting.places.pop(0)
            truth_m = _between(waiting.last or (at_ns, here_m), (at_ns, here_m), due_ns)
            self.of_place.add(math.dist(truth_m, forecast_m), math.dist(truth_m, origin_m))
        down = {f.service: 0.0 for f in report.flows if not f.up}
        for flow in report.flows:
            if not flow.up:
                down[flow.service] += flow.demand_kbps
        for service, forecasts in waiting.demands.items():
            self._judge_demand(forecasts, down.get(service, 0.0), at_ns, report.period_ms)
        waiting.last = (at_ns, here_m)

    def _judge_demand(
        self, forecasts: list[_Demand], demand_kbps: float, at_ns: int, period_ms: int
    ) -> None:
        for forecast in forecasts:
            forecast.highest_kbps = max(forecast.highest_kbps, demand_kbps)
        half_ns = period_ms * 500_000
        while forecasts and forecasts[0].due_ns <= at_ns + half_ns:
            done = forecasts.pop(0)
            self.of_demand.add(
                abs(done.highest_kbps - done.median_kbps), abs(done.highest_kbps - done.naive_kbps)
            )

    def forget(self, ue_id: str) -> None:
        self._waiting.pop(ue_id, None)

    def _of(self, ue_id: str) -> _Waiting:
        waiting = self._waiting.get(ue_id)
        if waiting is None:
            waiting = self._waiting[ue_id] = _Waiting()
        return waiting


def _between(
    before: tuple[int, tuple[float, float]], after: tuple[int, tuple[float, float]], at_ns: int
) -> tuple[float, float]:
    """Place at a time between two reports, on the straight line."""
    if after[0] <= before[0]:
        return after[1]
    share = min(1.0, max(0.0, (at_ns - before[0]) / (after[0] - before[0])))
    (x0, y0), (x1, y1) = before[1], after[1]
    return (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
