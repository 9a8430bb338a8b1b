"""What forecasts were worth: each compared with what was then reported, beside persistence."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

from controller.contracts.twin_messages import UserReport
from controller.local.tracks import downlink_kbps

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
class _Pending:
    """Forecasts whose time has not come, oldest first: rows of `width` numbers, the first of
    them when it is due, in ms (whole to a quarter of a microsecond)."""

    width: int
    numbers: array[float] = field(default_factory=lambda: array("d"))

    def add(self, due_ns: int, *numbers: float) -> None:
        self.numbers.append(due_ns / 1e6)
        self.numbers.extend(numbers)
        if len(self.numbers) > WAITING_PER_USER * self.width:
            self.pop()

    def is_due(self, at_ns: int) -> bool:
        return bool(self.numbers) and self.numbers[0] <= at_ns / 1e6

    def pop(self) -> list[float]:
        """The oldest one."""
        numbers = self.numbers[: self.width].tolist()
        del self.numbers[: self.width]
        return numbers


def _places() -> _Pending:
    """When; where the user was, and where it is forecast to be: x, y each."""
    return _Pending(5)


def _demands() -> _Pending:
    """When; persistence's and the forecast's demand, and the highest reported since."""
    return _Pending(4)


@dataclass(slots=True)
class _Waiting:
    """`last`: the newest report's time and place.

    Columns of numbers, not objects: those would be a third of a twin's memory.
    """

    places: _Pending = field(default_factory=_places)
    demands: dict[str, _Pending] = field(default_factory=dict)
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
        (x, y), (dx, dy) = origin_m, displacement_m
        waiting.places.add(at_ns + PLACE_HORIZON_NS, x, y, x + dx, y + dy)

    def demand(
        self, ue_id: str, service: str, naive_kbps: float, median_kbps: float, now_ns: int
    ) -> None:
        waiting = self._of(ue_id)
        at_ns = waiting.last[0] if waiting.last else now_ns
        kept = waiting.demands.get(service)
        if kept is None:
            kept = waiting.demands[service] = _demands()
        kept.add(at_ns + DEMAND_HORIZON_NS, naive_kbps, median_kbps, 0.0)

    def observe(self, report: UserReport) -> None:
        """The truth, as the user says: judges forecasts that are due by it."""
        waiting = self._of(report.ue_id)
        at_ns = report.measured_at_ns
        here_m = report.position_m or (waiting.last[1] if waiting.last else None)
        if here_m is None:
            return
        while waiting.places.is_due(at_ns):
            due_ms, *metres = waiting.places.pop()
            truth_m = _between(waiting.last or (at_ns, here_m), (at_ns, here_m), due_ms * 1e6)
            self.of_place.add(math.dist(truth_m, metres[2:]), math.dist(truth_m, metres[:2]))
        down = downlink_kbps(report)
        for service, forecasts in waiting.demands.items():
            self._judge_demand(forecasts, down.get(service, 0.0), at_ns, report.period_ms)
        waiting.last = (at_ns, here_m)

    def _judge_demand(
        self, waiting: _Pending, demand_kbps: float, at_ns: int, period_ms: int
    ) -> None:
        numbers = waiting.numbers
        for place in range(3, len(numbers), waiting.width):
            if demand_kbps > numbers[place]:
                numbers[place] = demand_kbps
        while waiting.is_due(at_ns + period_ms * 500_000):
            _, naive_kbps, median_kbps, highest_kbps = waiting.pop()
            self.of_demand.add(abs(highest_kbps - median_kbps), abs(highest_kbps - naive_kbps))

    def forget(self, ue_id: str) -> None:
        self._waiting.pop(ue_id, None)

    def _of(self, ue_id: str) -> _Waiting:
        waiting = self._waiting.get(ue_id)
        if waiting is None:
            waiting = self._waiting[ue_id] = _Waiting()
        return waiting


def _between(
    before: tuple[int, tuple[float, float]], after: tuple[int, tuple[float, float]], at_ns: float
) -> tuple[float, float]:
    """Place at a time between two reports, on the straight line."""
    if after[0] <= before[0]:
        return after[1]
    share = min(1.0, max(0.0, (at_ns - before[0]) / (after[0] - before[0])))
    (x0, y0), (x1, y1) = before[1], after[1]
    return (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
