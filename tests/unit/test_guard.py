"""The guard: one failure per rule, and what every accepted decision has in common."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.guard import (
    Basis,
    CellView,
    GuardLimits,
    TargetOrder,
    TokenBucket,
    check_admission,
    check_bounds,
    check_handover,
    check_reserve,
    check_slew,
    check_staleness,
    check_superseded,
    key_of,
    merged,
    slew_bounds_kbps,
)

LIMITS = GuardLimits()
FRESH = Basis(None, 1000, 10**18)
ALONE = TargetOrder(1, 1, None, None)


def reservation(
    slice_id: int,
    min_kbps: int,
    max_kbps: int = 20_000,
    traffic_class: TrafficClass = TrafficClass.ELASTIC,
) -> Reservation:
    return Reservation(
        slice_id=slice_id, traffic_class=traffic_class, min_kbps=min_kbps, max_kbps=max_kbps
    )


def cell(*live: Reservation) -> CellView:
    return CellView("ap1", 20_000, 0.9, {key_of(r): r for r in live})


CELL = cell(reservation(1, 8000), reservation(2, 2000, 2000, TrafficClass.REAL_TIME))


def test_a_moderate_change_passes_every_rule() -> None:
    changes = [reservation(1, 12_000), reservation(2, 3000, 3000, TrafficClass.REAL_TIME)]
    assert check_reserve(CELL, changes, FRESH, ALONE, LIMITS) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (reservation(1, 1000, 1_000_000_000), "max 1000000000 kbit/s outside 12-20000"),
        (reservation(1, 1000, 20_001), "max 20001"),
        (reservation(1, 0, 11), "max 11"),
        (reservation(1, 5001, 5000), "min 5001 kbit/s outside 0-5000"),
        (reservation(1, -1, 5000), "min -1"),
        (reservation(2, 0, 5000, TrafficClass.REAL_TIME), "min 0 kbit/s would be its ceiling"),
        (reservation(1, 100, 5000, TrafficClass.BEST_EFFORT), "one queue for all slices"),
        (reservation(1, 100, 5000, TrafficClass.CONTROL), "one queue for all slices"),
    ],
)
def test_bounds(change: Reservation, words: str) -> None:
    rejection = check_bounds(CELL, [change])
    assert rejection is not None
    assert rejection.rule == "bounds"
    assert words in rejection.reason


def test_bounds_include_their_ends() -> None:
    assert check_bounds(CELL, [reservation(1, 0, 12)]) is None
    assert check_bounds(CELL, [reservation(1, 20_000, 20_000)]) is None


def test_a_class_is_reserved_once_in_a_decision() -> None:
    rejection = check_bounds(CELL, [reservation(1, 100), reservation(1, 200)])
    assert rejection is not None
    assert "twice" in rejection.reason


@pytest.mark.parametrize(("new_kbps", "passes"), [(18_000, True), (18_001, False), (0, True)])
def test_slew_is_the_old_rate_and_two_mbit(new_kbps: int, passes: bool) -> None:
    rejection = check_slew(CELL, [reservation(1, new_kbps)], LIMITS)
    assert (rejection is None) is passes
    if rejection:
        assert "min 8000 -> 18001 kbit/s" in rejection.reason
        assert "0-18000" in rejection.reason


def test_slew_of_the_ceiling_and_of_a_new_class() -> None:
    held = cell(reservation(1, 1000, 3000))
    assert check_slew(held, [reservation(1, 1000, 8000)], LIMITS) is None
    rejection = check_slew(held, [reservation(1, 1000, 8001)], LIMITS)
    assert rejection is not None
    assert "max 3000 -> 8001" in rejection.reason
    assert check_slew(held, [reservation(3, 2000, 20_000)], LIMITS) is None
    assert check_slew(held, [reservation(3, 2001, 20_000)], LIMITS) is not None


def test_a_real_time_ceiling_is_its_guarantee_so_asking_for_more_is_no_jump() -> None:
    change = reservation(2, 3000, 20_000, TrafficClass.REAL_TIME)
    assert check_slew(CELL, [change], LIMITS) is None


def test_admission_says_the_numbers() -> None:
    assert check_admission(CELL, [reservation(1, 16_000)]) is None
    rejection = check_admission(CELL, [reservation(1, 16_001)])
    assert rejection is not None
    assert rejection.rule == "admission"
    for number in ("18001", "10000", "18000", "20000"):
        assert number in rejection.reason


def test_admission_judges_a_plan_as_a_whole() -> None:
    full = cell(reservation(1, 15_000), reservation(3, 3000))
    assert check_admission(full, [reservation(3, 6000)]) is not None
    assert check_admission(full, [reservation(1, 12_000), reservation(3, 6000)]) is None


def test_staleness_counts_from_the_twin() -> None:
    now_ns = 10**18
    assert check_staleness(Basis(now_ns - 1_000_000_000, 1000, now_ns)) is None
    rejection = check_staleness(Basis(now_ns - 1_200_000_000, 1000, now_ns))
    assert rejection is not None
    assert "1200 ms old, valid for 1000 ms" in rejection.reason


def test_superseded_by_a_newer_arrival_or_newer_twin_data() -> None:
    assert check_superseded(TargetOrder(3, 3, 100, 100)) is None
    assert check_superseded(TargetOrder(2, 3, 100, None)) is not None
    assert check_superseded(TargetOrder(3, 3, 99, 100)) is not None
    assert check_superseded(TargetOrder(3, 3, None, 100)) is None


def test_order_of_rules_superseded_comes_first() -> None:
    stale = Basis(0, 1, 10**18)
    rejection = check_reserve(CELL, [reservation(1, -5)], stale, TargetOrder(1, 2, 0, None), LIMITS)
    assert rejection is not None
    assert rejection.rule == "superseded"


def test_handover_rules() -> None:
    def rule(serving: str, target: str, since_ms: float | None) -> str | None:
        rejection = check_handover(serving, target, FRESH, ALONE, since_ms, LIMITS)
        return rejection.rule if rejection else None

    assert rule("ap1", "ap2", None) is None
    assert rule("ap1", "ap2", 500) is None
    assert rule("ap1", "ap2", 499) == "rate"
    assert rule("ap1", "ap1", None) == "no_change"


def test_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = TokenBucket.full(rate_per_s=2, burst=3, now_s=0.0)
    answers = []
    for now_s in (0.0, 0.0, 0.0, 0.0, 0.4, 0.5, 0.6, 100.0, 100.0, 100.0, 100.0):
        bucket, allowed = bucket.take(now_s)
        answers.append(allowed)
    assert answers == [True] * 3 + [False, False, True, False] + [True] * 3 + [False]


def test_bucket_survives_a_clock_that_stands_or_goes_back() -> None:
    bucket = replace(TokenBucket.full(1, 1, 10.0), tokens=0.0)
    bucket, allowed = bucket.take(5.0)
    assert not allowed
    _, allowed = bucket.take(5.5)
    assert not allowed


rates = st.integers(min_value=-5, max_value=25_000)
changes = st.lists(
    st.builds(
        reservation,
        st.sampled_from([1, 2, 3]),
        rates,
        rates,
        st.sampled_from(list(TrafficClass)),
    ),
    min_size=1,
    max_size=4,
)


@given(changes)
def test_what_passes_is_within_every_limit(asked: list[Reservation]) -> None:
    if check_reserve(CELL, asked, FRESH, ALONE, LIMITS) is not None:
        return
    after = merged(CELL.reservations, asked)
    assert sum(r.min_kbps for r in after.values()) <= CELL.reservable_kbps
    for change in asked:
        old = CELL.reservations.get(key_of(change))
        low_kbps, high_kbps = slew_bounds_kbps(old.min_kbps if old else 0, LIMITS)
        assert low_kbps <= change.min_kbps <= high_kbps
        assert 0 <= change.min_kbps <= change.max_kbps <= CELL.capacity_kbps
