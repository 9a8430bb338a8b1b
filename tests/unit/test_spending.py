"""Where a twin budget goes: totals, bounds, who gets more, and what does not change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.contracts.twin_budget import SpendingPolicy, TwinBudget, UserSpent
from controller.twins.spending import (
    LEAST_WEIGHT,
    LONGEST_MS,
    NEAR_HANDOVER_LONGEST_MS,
    Measured,
    Pair,
    Payer,
    SpendingState,
    confidence_ratio,
    is_far_from_handover,
    longest_ms,
    periods_ms,
    rate_bytes_per_s,
    spent,
    weight_of,
)

AUTOMATIC, UNIFORM = SpendingPolicy.AUTOMATIC, SpendingPolicy.UNIFORM
UNKNOWN = Measured(None, 0.0, None)


def payers(*weights: float, period_ms: int = 500) -> list[Payer]:
    return [
        Payer(f"ue{i}", 700.0, own_ms=500, period_ms=period_ms, weight=w)
        for i, w in enumerate(weights)
    ]


def budget(bytes_per_s: float, spending: SpendingPolicy = AUTOMATIC) -> TwinBudget:
    return TwinBudget(bytes_per_s=bytes_per_s, spending=spending)


@given(
    st.lists(st.floats(0.002, 10), min_size=4, max_size=30),
    st.floats(0.15, 0.95),
    st.sampled_from([AUTOMATIC, UNIFORM]),
)
def test_what_is_planned_costs_the_allowance_or_everybody_is_at_a_bound(
    weights: list[float], share: float, spending: SpendingPolicy
) -> None:
    who = payers(*weights)
    allowance = share * rate_bytes_per_s(who, {p.ue_id: 500 for p in who})
    chosen = periods_ms(who, allowance, spending)
    assert all(500 <= period <= LONGEST_MS for period in chosen.values())
    total = rate_bytes_per_s(who, chosen)
    assert total <= allowance * 1.001
    assert total >= 0.95 * allowance or set(chosen.values()) == {LONGEST_MS}


def test_uniform_is_the_same_for_all_and_automatic_gives_more_where_age_costs_more() -> None:
    who = payers(0.01, 0.04, 0.16)
    uniform = periods_ms(who, 1400.0, UNIFORM)
    automatic = periods_ms(who, 1400.0, AUTOMATIC)
    assert len(set(uniform.values())) == 1
    assert automatic["ue0"] > automatic["ue1"] > automatic["ue2"]
    # Four times the weight, half the period: the least total error for a spending.
    assert automatic["ue0"] / automatic["ue1"] == pytest.approx(2, rel=0.02)
    assert rate_bytes_per_s(who, automatic) == pytest.approx(
        rate_bytes_per_s(who, uniform), rel=0.02
    )


def test_the_total_error_is_less_than_uniforms() -> None:
    who = payers(0.005, 0.01, 0.05, 0.3, 0.3)

    def error(chosen: dict[str, int]) -> float:
        return sum(p.weight * chosen[p.ue_id] for p in who)

    assert error(periods_ms(who, 3000.0, AUTOMATIC)) < 0.9 * error(periods_ms(who, 3000.0, UNIFORM))


def test_who_was_not_watched_for_long_is_like_the_others() -> None:
    """What is calm for a while may be about to rise: starved then, it is seen late."""
    known = [replace(p, confidence_ratio=1.0) for p in payers(0.01, 0.16)]
    half = [replace(p, confidence_ratio=0.5) for p in known]
    new = [replace(p, confidence_ratio=0.0) for p in known]
    ratios = []
    for who in (known, half, new):
        _, settings = spent(budget(1400.0), SpendingState(), who, UNKNOWN)
        ratios.append(settings["ue0"].period_ms / settings["ue1"].period_ms)
    assert ratios == pytest.approx([4.0, 2.0, 1.0], rel=0.03)
    watched = [confidence_ratio(s) for s in (0.0, 8.0, 24.0, 40.0, 60.0)]
    assert watched == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_with_enough_to_spend_nothing_changes() -> None:
    _, settings = spent(budget(1e6), SpendingState(), payers(0.01, 1.0), UNKNOWN)
    assert {(s.period_ms, s.is_coarse) for s in settings.values()} == {(500, False)}


def test_the_first_step_is_whole_and_later_ones_at_most_double() -> None:
    who = payers(0.1, 0.1)
    state, first = spent(budget(400), SpendingState(), who, UNKNOWN)
    assert {s.period_ms for s in first.values()} == {3500}
    _, later = spent(budget(400), state, who, UNKNOWN)  # nobody followed yet
    assert {s.period_ms for s in later.values()} == {1000}


def test_small_changes_of_weights_change_nothing() -> None:
    who = payers(0.1, 0.2, 0.3)
    state, first = spent(budget(1000), SpendingState(), who, UNKNOWN)
    now = [replace(p, period_ms=first[p.ue_id].period_ms, weight=p.weight * 1.2) for p in who]
    state, again = spent(budget(1000), state, now, UNKNOWN)
    assert again == first
    moved = [replace(now[0], weight=5.0), *now[1:]]
    _, changed = spent(budget(1000), state, moved, UNKNOWN)
    assert changed["ue0"].period_ms < first["ue0"].period_ms


def test_what_is_not_of_reports_is_taken_off_and_what_was_measured_corrects() -> None:
    who = payers(1.0)
    _, whole = spent(budget(1000), SpendingState(), who, UNKNOWN)
    _, less = spent(budget(1000), SpendingState(), who, Measured(None, 500.0, None))
    assert less["ue0"].period_ms == pytest.approx(2 * whole["ue0"].period_ms, rel=0.02)
    planned = SpendingState(weights={"ue0": 1.0})
    now = [replace(who[0], period_ms=whole["ue0"].period_ms)]
    _, over = spent(budget(1000), planned, now, Measured(1200.0, 0.0, None))
    assert over["ue0"].period_ms > whole["ue0"].period_ms


def test_what_was_spent_before_there_was_a_plan_corrects_nothing() -> None:
    who = payers(1.0)
    first, settings = spent(budget(1000), SpendingState(), who, Measured(9000.0, 0.0, None))
    assert first.scale == 1.0
    assert rate_bytes_per_s(who, {"ue0": settings["ue0"].period_ms}) == pytest.approx(
        1000, rel=0.01
    )


def test_a_processor_limit_lengthens_periods_too() -> None:
    limited = TwinBudget(bytes_per_s=1000, processor_ratio=0.05)
    _, settings = spent(limited, SpendingState(), payers(1.0), Measured(None, 0.0, 0.2))
    _, free = spent(budget(1000), SpendingState(), payers(1.0), Measured(None, 0.0, 0.2))
    assert settings["ue0"].period_ms > free["ue0"].period_ms


def test_a_batch_bounds_the_period() -> None:
    (payer,) = payers(0.01)
    assert periods_ms([replace(payer, longest_ms=1000)], 1.0, AUTOMATIC) == {"ue0": 1000}


# -- what age costs ---------------------------------------------------------------------


def user(**changes: object) -> UserSpent:
    document = {
        "ue_id": "ue1",
        "cell_id": "ap1",
        "datagrams": 10,
        "wire_bytes": 7000,
        "demand_kbps": {1: 1000.0},
        "growth_kbps_per_s": {1: 100.0},
        "observed_s": 60.0,
        "loss_ratio": {1: 0.0},
        "handover_margin_db": 20.0,
        "is_moving": False,
    }
    return UserSpent.model_validate({**document, **changes})


def pairs(demand: float = 1000.0, reserved: float = 2000.0, missed: float = 0.0) -> dict:  # type: ignore[type-arg]
    return {("ap1", 1): Pair(demand, reserved, missed)}


def test_age_costs_more_the_faster_nearer_and_worse_it_goes() -> None:
    usual = weight_of(user(), pairs())
    assert usual == pytest.approx(100 / 2000 * 0.5)
    assert weight_of(user(growth_kbps_per_s={1: 300.0}), pairs()) > usual
    assert weight_of(user(), pairs(demand=1900)) > usual
    assert weight_of(user(), pairs(missed=0.5)) > usual
    assert weight_of(user(growth_kbps_per_s={}), pairs()) == LEAST_WEIGHT


def test_who_may_be_handed_over_soon_reports_often_enough() -> None:
    assert longest_ms(user(is_moving=True, handover_margin_db=1.0)) == NEAR_HANDOVER_LONGEST_MS
    for calm in ({"is_moving": False}, {"handover_margin_db": 30.0}, {"handover_margin_db": None}):
        near = {"is_moving": True, "handover_margin_db": 1.0}
        assert longest_ms(user(**{**near, **calm})) == LONGEST_MS


def test_who_stands_still_far_from_a_handover_may_be_coarse() -> None:
    assert is_far_from_handover(user(handover_margin_db=10.0), was_coarse=False)
    assert not is_far_from_handover(user(handover_margin_db=8.0), was_coarse=False)
    assert is_far_from_handover(user(handover_margin_db=8.0), was_coarse=True)
    assert not is_far_from_handover(user(is_moving=True), was_coarse=True)
    who = [replace(p, may_be_coarse=True) for p in payers(1.0, 1.0)]
    _, scarce = spent(budget(500), SpendingState(), who, UNKNOWN)
    assert {s.is_coarse for s in scarce.values()} == {True}
    _, uniform = spent(budget(500, UNIFORM), SpendingState(), who, UNKNOWN)
    assert {s.is_coarse for s in uniform.values()} == {False}
