"""Where a twin budget is spent (VL6): users' periods and precision for so many bytes a second.

Pure: state and what was measured in, settings out.  A decision's error grows with the age
of what it rests on; what age costs differs between users.  With error = weight
x period and spending = bytes / period, the least total error for a spending has periods
in proportion to sqrt(bytes / weight).  `uniform` gives everybody the same; `automatic` begins
so, and goes as far from it as it has watched long enough to know what changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.contracts.twin_budget import SpendingPolicy, TwinBudget, UserSpent

LONGEST_MS = 8000
STEP_MS = 10
SLEW_RATIO = 2.0
"""A period is at most so many times longer or shorter after one step; but for the first."""
HELD_RATIO = 1.3
"""Periods and weights stay as they are while the wanted ones are within this factor: telling an
agent costs about as much as one of its reports."""
TOTAL_TOLERANCE_RATIO = 0.03
LEAST_WEIGHT = 0.002
LEAST_RESERVED_KBPS = 100.0
NEAR_RATIOS = (0.5, 1.5)
MISSED_FACTOR = 2.0
NEAR_HANDOVER_LONGEST_MS = 4000
"""Event A3 rests on the user's own reports.  Who serves it, and so what its cell should reserve,
is known at once, whatever their age: nearness is no weight."""
WATCHED_FROM_S, WATCHED_S = 8.0, 40.0
"""Growth is known from then on, and to be relied on: what is calm for a while may be about to
rise.  Until then a weight is between its own and everybody's."""
COARSE_MARGIN_DB = 9.0
FINE_MARGIN_DB = 6.0
LEAST_SCALE, MOST_SCALE = 0.2, 1.5


@dataclass(frozen=True)
class Pair:
    """A slice in a cell, as its twin has it.  `missed_ratio`: of lately, windows without SLA."""

    demand_kbps: float
    reserved_kbps: float
    missed_ratio: float


@dataclass(frozen=True)
class Payer:
    """One user.  `report_bytes`: wire bytes of one report; `own_ms`: the period its model has
    without the budget; `longest_ms`: more would break it; `period_ms`: now."""

    ue_id: str
    report_bytes: float
    own_ms: int
    period_ms: int
    weight: float = 1.0
    confidence_ratio: float = 1.0
    """How far its weight is to be relied on."""
    longest_ms: int = LONGEST_MS
    may_be_coarse: bool = False
    """It stands still, far from a handover: where it is and what it hears may be old."""


@dataclass(frozen=True)
class Setting:
    period_ms: int
    is_coarse: bool = False


@dataclass(frozen=True)
class SpendingState:
    """Between steps.  `scale`, `processor_scale`: what measurements say of the plan."""

    weights: Mapping[str, float] = field(default_factory=dict)
    coarse: frozenset[str] = frozenset()
    scale: float = 1.0
    processor_scale: float = 1.0


@dataclass(frozen=True)
class Measured:
    """Over the last seconds; None: not long enough since the last change."""

    bytes_per_s: float | None
    other_bytes_per_s: float
    """Not of reports: orders, aggregates, twins on the move."""
    processor_ratio: float | None


def weight_of(user: UserSpent, pairs: Mapping[tuple[str, int], Pair]) -> float:
    """Share of the reservations it is in, by which a decision errs for each second of age."""
    total = 0.0
    for slice_id in user.demand_kbps:
        pair = pairs.get((user.cell_id, slice_id))
        if pair is None:
            continue
        reserved_kbps = max(LEAST_RESERVED_KBPS, pair.reserved_kbps)
        near = min(NEAR_RATIOS[1], max(NEAR_RATIOS[0], pair.demand_kbps / reserved_kbps))
        growth = user.growth_kbps_per_s.get(slice_id, 0.0) / reserved_kbps
        total += growth * near * (1 + MISSED_FACTOR * pair.missed_ratio)
    return max(LEAST_WEIGHT, total)


def longest_ms(user: UserSpent) -> int:
    """Also where everybody gets the same."""
    is_far = user.handover_margin_db is None or user.handover_margin_db >= COARSE_MARGIN_DB
    return LONGEST_MS if is_far or not user.is_moving else NEAR_HANDOVER_LONGEST_MS


def confidence_ratio(observed_s: float) -> float:
    return min(1.0, max(0.0, (observed_s - WATCHED_FROM_S) / (WATCHED_S - WATCHED_FROM_S)))


def believed(payers: Sequence[Payer]) -> list[Payer]:
    """With weights that are, as far as they are not to be relied on, everybody's (their
    geometric mean)."""
    if not payers:
        return []
    usual = math.exp(sum(math.log(p.weight) for p in payers) / len(payers))
    return [
        replace(p, weight=usual ** (1 - p.confidence_ratio) * p.weight**p.confidence_ratio)
        for p in payers
    ]


def spent(
    budget: TwinBudget, state: SpendingState, payers: Sequence[Payer], measured: Measured
) -> tuple[SpendingState, dict[str, Setting]]:
    """The next settings of all payers, those that stay included."""
    payers = believed(payers)
    is_first = not state.weights
    if is_first:  # what was spent until now was not planned, so it corrects no plan
        measured = replace(measured, bytes_per_s=None)
    state = _remembered(_corrected(budget, state, measured), payers)
    room = budget.bytes_per_s - measured.other_bytes_per_s
    allowance = room * state.scale * state.processor_scale
    weighed = [replace(p, weight=state.weights[p.ue_id]) for p in payers]
    wanted = periods_ms(weighed, allowance, budget.spending)
    if is_first:
        chosen = wanted
    else:
        near = {p.ue_id: _slewed(p, wanted[p.ue_id]) for p in payers}
        chosen = _settled(weighed, near, allowance)
    binds = any(chosen[p.ue_id] > p.own_ms for p in payers)
    automatic = budget.spending is SpendingPolicy.AUTOMATIC
    coarse = frozenset(p.ue_id for p in payers if automatic and binds and p.may_be_coarse)
    state = replace(state, coarse=coarse)
    return state, {u: Setting(period, u in coarse) for u, period in chosen.items()}


def periods_ms(
    payers: Sequence[Payer], bytes_per_s: float, spending: SpendingPolicy
) -> dict[str, int]:
    """As long as the allowance wants; everybody's longest when even that is too much."""
    if spending is SpendingPolicy.UNIFORM:
        shape = {p.ue_id: 1.0 for p in payers}
    else:
        shape = {p.ue_id: math.sqrt(p.report_bytes / p.weight) for p in payers}
    return _scaled_to(payers, shape, bytes_per_s)


def rate_bytes_per_s(payers: Sequence[Payer], periods: Mapping[str, int]) -> float:
    return sum(p.report_bytes * 1000 / periods[p.ue_id] for p in payers)


def _scaled_to(
    payers: Sequence[Payer], shape: Mapping[str, float], bytes_per_s: float
) -> dict[str, int]:
    """Periods = factor x shape within each payer's bounds, the factor as the bytes want it."""

    def at(factor: float) -> dict[str, int]:
        return {p.ue_id: _bounded(p, factor * shape[p.ue_id]) for p in payers}

    if not payers:
        return {}
    low = min(p.own_ms / shape[p.ue_id] for p in payers)
    high = max(p.longest_ms / shape[p.ue_id] for p in payers)
    if rate_bytes_per_s(payers, at(low)) <= bytes_per_s:
        return at(low)
    for _ in range(60):
        middle = math.sqrt(low * high)
        if rate_bytes_per_s(payers, at(middle)) > bytes_per_s:
            low = middle
        else:
            high = middle
    return at(high)


def _bounded(payer: Payer, period_ms: float) -> int:
    whole = round(period_ms / STEP_MS) * STEP_MS
    return max(payer.own_ms, min(payer.longest_ms, whole))


def _slewed(payer: Payer, wanted_ms: int) -> int:
    low, high = payer.period_ms / SLEW_RATIO, payer.period_ms * SLEW_RATIO
    return _bounded(payer, min(high, max(low, wanted_ms)))


def _settled(
    payers: Sequence[Payer], wanted: Mapping[str, int], bytes_per_s: float
) -> dict[str, int]:
    """Who is near enough to what it should have stays; the others make up for the total, or
    all do when that is not enough."""
    now = {p.ue_id: p.period_ms for p in payers}
    moving = [p for p in payers if not 1 / HELD_RATIO < wanted[p.ue_id] / p.period_ms < HELD_RATIO]
    ids = {p.ue_id for p in moving}
    kept = {u: period for u, period in now.items() if u not in ids}
    staying = [p for p in payers if p.ue_id in kept]
    left = bytes_per_s - rate_bytes_per_s(staying, kept)
    if moving and left > 0:
        shape = {u: float(wanted[u]) for u in ids}
        adjusted = {**kept, **_scaled_to(moving, shape, left)}
        if all(_slewed(p, adjusted[p.ue_id]) == adjusted[p.ue_id] for p in moving):
            return {p.ue_id: adjusted[p.ue_id] for p in payers}
        return dict(wanted)
    if moving or _is_off(rate_bytes_per_s(payers, now), rate_bytes_per_s(payers, wanted)):
        return dict(wanted)
    return now


def _is_off(now: float, wanted: float) -> bool:
    return abs(now - wanted) > TOTAL_TOLERANCE_RATIO * wanted


def _remembered(state: SpendingState, payers: Sequence[Payer]) -> SpendingState:
    """With weights that really changed; small changes are noise."""
    weights = {}
    for payer in payers:
        known = state.weights.get(payer.ue_id)
        is_near = known is not None and 1 / HELD_RATIO < payer.weight / known < HELD_RATIO
        weights[payer.ue_id] = known if is_near and known is not None else payer.weight
    return replace(state, weights=weights)


def _corrected(budget: TwinBudget, state: SpendingState, measured: Measured) -> SpendingState:
    """What was planned cost more or less than planned."""
    scale, processor_scale = state.scale, state.processor_scale
    if measured.bytes_per_s:
        factor = min(1.2, max(0.8, budget.bytes_per_s / measured.bytes_per_s))
        scale = min(MOST_SCALE, max(LEAST_SCALE, scale * factor**0.5))
    if budget.processor_ratio is not None and measured.processor_ratio:
        factor = budget.processor_ratio / measured.processor_ratio
        processor_scale = min(1.0, max(0.05, processor_scale * min(1.5, max(0.5, factor)) ** 0.5))
    return replace(state, scale=scale, processor_scale=processor_scale)


def is_far_from_handover(user: UserSpent, was_coarse: bool) -> bool:
    """With hysteresis on the margin."""
    if user.is_moving:
        return False
    margin_db = FINE_MARGIN_DB if was_coarse else COARSE_MARGIN_DB
    return user.handover_margin_db is None or user.handover_margin_db >= margin_db
