"""Reservation policies on the fluid model: satisfied windows against reserved capacity.

An overloaded (cell, slice) loses what exceeds its reservation; nothing is
borrowed, since the scenario's filler takes all that is left of a bottleneck.  A
1 s window of a slice is satisfied when its network-wide loss is within both the
goodput tolerance and the SLA's loss bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from topologies.fluid import cell_slice_demand
from topologies.scenario.schema import Scenario

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

STEP_S = 0.1
WINDOW_STEPS = 10
REPORT_STEPS = 5
"""Twins are updated every half second."""
DELAY_STEPS = 2
"""From the end of a report period to the queue: twin path, decision, OVSDB."""
GOODPUT_TOLERANCE_RATIO = 0.01


@dataclass(frozen=True)
class Outcome:
    """Shares of windows, and the time average of what was reserved in all bottlenecks."""

    satisfied_ratio: FloatArray
    """Per slice."""
    all_slices_ratio: float
    reserved_mbps: float

    @property
    def mean_ratio(self) -> float:
        return float(self.satisfied_ratio.mean())


def demand_kbps(scenario: Scenario, seed: int, duration_s: float) -> FloatArray:
    """[bottleneck, slice, step of 0.1 s]."""
    names = [ap.name for ap in scenario.access_points]
    rows = [names.index(name) for name in scenario.bottlenecks]
    return cell_slice_demand(scenario, seed, duration_s, STEP_S)[rows]


def reservable_kbps(scenario: Scenario) -> FloatArray:
    """What reservations may sum up to, per bottleneck."""
    rate_of = {ap.name: ap.down_mbps for ap in scenario.access_points}
    return np.array([1000 * scenario.reservable_ratio * rate_of[b] for b in scenario.bottlenecks])


def loss_bounds(scenario: Scenario) -> FloatArray:
    """Per slice: the loss at which a window stops being satisfied."""
    bounds = [s.sla.loss_ratio for s in scenario.slices]
    return np.array([min(GOODPUT_TOLERANCE_RATIO, 1.0 if b is None else b) for b in bounds])


def satisfied(offered: FloatArray, lost: FloatArray, bounds: FloatArray) -> BoolArray:
    """[slice, window] from sums per window, [slice, window]."""
    return lost <= bounds[:, None] * offered


def by_window(values: FloatArray) -> FloatArray:
    """Sums over windows of the last axis."""
    windows = values.shape[-1] // WINDOW_STEPS
    kept = values[..., : windows * WINDOW_STEPS]
    return np.asarray(kept.reshape(*values.shape[:-1], windows, WINDOW_STEPS).sum(axis=-1))


def judge(scenario: Scenario, demand: FloatArray, reserved: FloatArray) -> Outcome:
    """Demand and reservations, both [bottleneck, slice, step] in kbit/s."""
    lost = np.maximum(demand - reserved, 0.0)
    offered_by_window = by_window(demand).sum(axis=0)
    held = satisfied(offered_by_window, by_window(lost).sum(axis=0), loss_bounds(scenario))
    return Outcome(
        satisfied_ratio=held.mean(axis=1),
        all_slices_ratio=float(held.all(axis=0).mean()),
        reserved_mbps=float(np.broadcast_to(reserved, demand.shape).sum(axis=(0, 1)).mean() / 1000),
    )


def oracle(demand: FloatArray, limit_kbps: FloatArray) -> FloatArray:
    """Reserves what will be asked until the next decision takes effect, and no more."""
    peak = np.stack([np.roll(demand, -shift, axis=2) for shift in range(REPORT_STEPS)]).max(axis=0)
    plan = peak[:, :, ::REPORT_STEPS].repeat(REPORT_STEPS, axis=2)[:, :, : demand.shape[2]]
    return fitted(plan, limit_kbps)


def planner(
    demand: FloatArray, limit_kbps: FloatArray, forecast: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Reservations of a planner that sees half-second averages, late as in the loop.

    `forecast` maps reports [cell, slice, report] to what to reserve after each of them.
    """
    reports = demand.shape[2] // REPORT_STEPS
    seen = demand[:, :, : reports * REPORT_STEPS]
    seen = seen.reshape(*seen.shape[:2], reports, REPORT_STEPS).mean(axis=3)
    plan = fitted(forecast(seen), limit_kbps).repeat(REPORT_STEPS, axis=2)
    late = np.roll(plan, REPORT_STEPS + DELAY_STEPS, axis=2)
    late[:, :, : REPORT_STEPS + DELAY_STEPS] = plan[:, :, :1]
    return late


def fitted(plan: FloatArray, limit_kbps: FloatArray) -> FloatArray:
    """A plan [cell, slice, time] scaled down in each cell to what may be reserved there."""
    total = plan.sum(axis=1, keepdims=True)
    share = np.minimum(1.0, limit_kbps[:, None, None] / np.maximum(total, 1e-9))
    return np.asarray(plan * share)


def smoothing(
    level_ratio: float,
    trend_ratio: float,
    horizon_reports: float,
    margin_ratio: float,
    margin_kbps: float,
) -> Callable[[FloatArray], FloatArray]:
    """Holt's exponential smoothing with a trend, plus a margin."""

    def forecast(seen: FloatArray) -> FloatArray:
        level, trend = seen[:, :, 0].copy(), np.zeros(seen.shape[:2])
        plan = np.empty_like(seen)
        for index in range(seen.shape[2]):
            before = level
            level = level_ratio * seen[:, :, index] + (1 - level_ratio) * (level + trend)
            trend = trend_ratio * (level - before) + (1 - trend_ratio) * trend
            ahead = np.maximum(level, level + horizon_reports * trend)
            plan[:, :, index] = ahead * (1 + margin_ratio) + margin_kbps
        return plan

    return forecast
