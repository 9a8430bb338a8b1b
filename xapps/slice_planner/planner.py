"""The planner: (state, event, forecast) -> (state, plan or None).  Pure; its clock is the window.

`observed` takes an event into a cell's history, `histories` is what forecasters
read, `planned` turns a forecast into reservations: the forecast's upper quantile
plus a margin, fitted into what the cell may reserve, sent only when it matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from holon_xapp import CellEvent, PlannedReservation, SettingsError, SliceState, Tunables

FloatArray = npt.NDArray[np.float64]
REAL_TIME = "real_time"


@dataclass(frozen=True)
class Policy(Tunables):
    """Settings of the planner; each may be set in the xApp's config under its name."""

    margin_ratio: float = 0.08
    """Reserved above the forecast's upper quantile."""
    real_time_margin_ratio: float = 0.15
    """The same for real-time slices, whose reservation is also their ceiling."""
    floor_kbps: float = 100.0
    """Least guaranteed rate of a slice in a cell, with or without users."""
    real_time_floor_kbps: float = 400.0
    """The same for real-time slices: a user who arrives finds room until the next window."""
    ceiling_ratio: float = 1.3
    """An elastic slice's ceiling over its guaranteed rate."""
    ceiling_room_kbps: float = 600.0
    """An elastic slice's ceiling is at least this far above its guaranteed rate."""
    short_ratio: float = 0.92
    """Reserve more when this share of the reservation would not do: the margin's own size,
    so that noise within the margin asks for nothing."""
    excess_ratio: float = 0.25
    """Reserve less when more than this share of the reservation is not needed."""
    lower_interval_ms: int = 3000
    """At least so long between two decisions of a cell that lower something."""
    decision_interval_ms: int = 1000
    """At least so long between two decisions of a cell; half the forecast's horizon."""
    urgent_interval_ms: int = 500
    """The same when a slice's median forecast is above what it holds."""
    slew_ratio: float = 1.0
    slew_floor_kbps: float = 2000.0
    """The guard lets a rate change by this ratio of itself plus this floor in one decision."""
    kept_samples: int = 120

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ceiling_ratio < 1 or self.short_ratio > 1 or self.excess_ratio >= 1:
            raise SettingsError(
                "ceiling_ratio must be 1 or more, short_ratio and excess_ratio below"
            )
        if self.kept_samples < 1:
            raise SettingsError("kept_samples must be 1 or more")


@dataclass(frozen=True)
class CellState:
    """What the planner knows of a cell.  `samples`: slice_id -> [n, 2] (kbit/s, users)."""

    window: int = -1
    samples: Mapping[int, FloatArray] = field(default_factory=dict)
    decided_window: int | None = None
    lowered_window: int | None = None


def observed(policy: Policy, state: CellState, event: CellEvent) -> CellState:
    """The state with the event's samples.  Missing windows repeat the last sample before them.

    A window that was seen already, or an older one, changes nothing.
    """
    if event.window <= state.window:
        return state
    missed = event.window - state.window - 1 if state.samples else 0
    samples = {}
    for item in event.slices:
        newest = np.array([[item.demand_kbps, float(item.users)]])
        before = state.samples.get(item.slice_id, np.empty((0, 2)))
        filled = np.repeat(before[-1:], min(missed, policy.kept_samples), axis=0)
        samples[item.slice_id] = np.concatenate([before, filled, newest])[-policy.kept_samples :]
    return replace(state, window=event.window, samples=samples)


def histories(state: CellState, event: CellEvent, steps: int) -> FloatArray:
    """[slice, step, 2] in the event's order of slices, oldest first.

    While there are fewer samples than steps, the first one stands for those before it.
    """
    rows = [state.samples[item.slice_id][-steps:] for item in event.slices]
    return np.stack([np.concatenate([r[:1].repeat(steps - len(r), axis=0), r]) for r in rows])


def planned(
    policy: Policy, state: CellState, event: CellEvent, quantiles_kbps: FloatArray
) -> tuple[CellState, tuple[PlannedReservation, ...] | None]:
    """The cell's next reservations, or None when those it has will do.

    `quantiles_kbps` [slice, quantile], rising: the first is kept with the decision as the
    forecast, the last is what is reserved for.  A plan has every slice of the event.
    """
    if not event.slices:
        return state, None
    held_kbps = np.array([_held_kbps(item) for item in event.slices])
    is_urgent = bool((quantiles_kbps[:, 0] > held_kbps).any())
    interval_ms = policy.urgent_interval_ms if is_urgent else policy.decision_interval_ms
    if _within(event, state.decided_window, interval_ms):
        return state, None
    wanted_kbps = wanted(policy, event, quantiles_kbps)
    short = (wanted_kbps > held_kbps / policy.short_ratio) & (wanted_kbps - held_kbps >= 1.0)
    spare = wanted_kbps < held_kbps * (1 - policy.excess_ratio)
    if _within(event, state.lowered_window, policy.lower_interval_ms):
        spare &= False
    if not (short | spare).any():
        return state, None
    next_kbps = np.where(short | spare, wanted_kbps, held_kbps)
    if next_kbps.sum() > event.reservable_kbps:
        next_kbps = wanted_kbps  # room has to be made; `wanted` fits
    plan = tuple(
        _reservation(policy, event, item, min_kbps, median_kbps)
        for item, min_kbps, median_kbps in zip(
            event.slices, next_kbps, quantiles_kbps[:, 0], strict=True
        )
    )
    lowered = bool((next_kbps < held_kbps - 1.0).any())
    return (
        replace(
            state,
            decided_window=event.window,
            lowered_window=event.window if lowered else state.lowered_window,
        ),
        plan,
    )


def wanted(policy: Policy, event: CellEvent, quantiles_kbps: FloatArray) -> FloatArray:
    """[slice]: upper quantile plus margin, at least the floor, together what is reservable.

    When that does not fit, what is likely to be used goes before what is not: all
    slices' lower quantiles, then what the next ones add; real-time before elastic in each.
    """
    real_time = np.array([item.traffic_class == REAL_TIME for item in event.slices])
    margin_ratio = np.where(real_time, policy.real_time_margin_ratio, policy.margin_ratio)
    floor_kbps = np.where(real_time, policy.real_time_floor_kbps, policy.floor_kbps)
    levels_kbps = np.column_stack([floor_kbps, quantiles_kbps * (1 + margin_ratio[:, None])])
    return fitted(np.maximum.accumulate(levels_kbps, axis=1), real_time, event.reservable_kbps)


def fitted(
    levels_kbps: FloatArray, real_time: npt.NDArray[np.bool_], room_kbps: float
) -> FloatArray:
    """[slice] from rising levels [slice, level]: level by level while there is room.

    Within a level real-time slices go first; where the room ends, shares are in
    proportion to what the level adds.
    """
    given_kbps = np.zeros(len(levels_kbps))
    for level_kbps in levels_kbps.T:
        for group in (real_time, ~real_time):
            more_kbps = np.where(group, level_kbps - given_kbps, 0.0).clip(min=0.0)
            left_kbps = max(0.0, room_kbps - given_kbps.sum())
            if more_kbps.sum() > 0:
                given_kbps = given_kbps + more_kbps * min(1.0, left_kbps / more_kbps.sum())
    return given_kbps


def _within(event: CellEvent, window: int | None, interval_ms: int) -> bool:
    """Whether `window` is less than the interval before the event."""
    return window is not None and (event.window - window) * event.period_ms < interval_ms


def _held_kbps(item: SliceState) -> float:
    return item.reservation.min_kbps


def _reservation(
    policy: Policy, event: CellEvent, item: SliceState, min_kbps: float, median_kbps: float
) -> PlannedReservation:
    """With a ceiling, and no further from what is held than the guard lets one decision go."""
    held = item.reservation
    is_kept = abs(min_kbps - held.min_kbps) < 1.0
    if item.traffic_class == REAL_TIME:
        max_kbps = min_kbps
    else:
        room_kbps = max(min_kbps * (policy.ceiling_ratio - 1), policy.ceiling_room_kbps)
        max_kbps = min_kbps + room_kbps
    if is_kept and held.max_kbps >= held.min_kbps > 0:
        max_kbps = held.max_kbps
    max_kbps = min(max_kbps, event.capacity_kbps, _highest_kbps(policy, held.max_kbps))
    min_kbps = min(min_kbps, max_kbps, _highest_kbps(policy, held.min_kbps))
    return PlannedReservation(
        s_nssai=item.s_nssai,
        traffic_class=item.traffic_class,
        min_kbps=int(min_kbps),
        max_kbps=max(int(max_kbps), 12),
        predicted_kbps=round(float(median_kbps), 1),
    )


def _highest_kbps(policy: Policy, held_kbps: float) -> float:
    return int(held_kbps * policy.slew_ratio) + held_kbps + policy.slew_floor_kbps
