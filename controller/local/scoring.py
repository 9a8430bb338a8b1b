"""What forecasts were worth: each compared with what was then reported, beside persistence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.contracts.twin_messages import UserReport
from controller.local.pending import HORIZON_NS
from controller.local.tracks import Track, downlink_kbps


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


class Scores:
    """`place` in m, `demand` in kbit/s (maximum of the horizon, downlink, per service)."""

    def __init__(self) -> None:
        self.of_place = Sum()
        self.of_demand = Sum()

    def judge(self, track: Track, report: UserReport) -> None:
        """The truth, as the user says now: of forecasts that are due by it.

        `track`: as it was before the report, so what came between is still in it.
        """
        at_ns = report.measured_at_ns
        self._judge_demands(track, report)
        last_ns, last_m = track.newest_at_ns, track.place_m
        here_m = report.position_m or last_m
        for forecast in track.pending.due_places(at_ns):
            due_ns = forecast.made_at_ns + HORIZON_NS
            truth_m = _between((last_ns, last_m), (at_ns, here_m), due_ns)
            error_m = math.dist(truth_m, forecast.place_m)
            self.of_place.add(error_m, math.dist(truth_m, forecast.origin_m))

    def _judge_demands(self, track: Track, report: UserReport) -> None:
        due = track.pending.due_demands(report.measured_at_ns + report.period_ms * 500_000)
        if not due:
            return
        now_kbps = downlink_kbps(report)
        for forecast in due:
            since_kbps = track.highest_kbps(forecast.made_at_ns)
            for service, (naive_kbps, median_kbps) in forecast.demand_kbps.items():
                highest = max(now_kbps.get(service, 0.0), since_kbps.get(service, 0.0))
                self.of_demand.add(abs(highest - median_kbps), abs(highest - naive_kbps))


def _between(
    before: tuple[float, tuple[float, float]], after: tuple[int, tuple[float, float]], at_ns: float
) -> tuple[float, float]:
    """Place at a time between two reports, on the straight line."""
    if after[0] <= before[0]:
        return after[1]
    share = min(1.0, max(0.0, (at_ns - before[0]) / (after[0] - before[0])))
    (x0, y0), (x1, y1) = before[1], after[1]
    return (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
