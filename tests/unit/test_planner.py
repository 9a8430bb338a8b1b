"""slice-planner's planner: scripted events in, plans out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from holon_xapp import (
    CellEvent,
    PlannedReservation,
    Reservation,
    SettingsError,
    SliceState,
    SNssai,
)

from xapps.slice_planner.planner import (
    CellState,
    FloatArray,
    Policy,
    fitted,
    histories,
    observed,
    planned,
    wanted,
)

POLICY = Policy(margin_ratio=0.1, real_time_margin_ratio=0.2, real_time_floor_kbps=400.0)
VIDEO, CONTROL = SNssai(1, "000001"), SNssai(2, "000002")


def slice_state(
    slice_id: int = 1,
    demand_kbps: float = 2000.0,
    min_kbps: float = 3000.0,
    max_kbps: float = 4000.0,
    traffic_class: str = "elastic",
    users: int = 2,
) -> SliceState:
    return SliceState(
        slice_id,
        VIDEO if slice_id == 1 else CONTROL,
        traffic_class,
        users,
        demand_kbps,
        0.9 * demand_kbps,
        0.0,
        5.0,
        Reservation(min_kbps, max_kbps),
    )


def event(
    *slices: SliceState,
    window: int = 100,
    capacity_kbps: float = 20_000.0,
    reservable_kbps: float = 18_000.0,
) -> CellEvent:
    return CellEvent(
        "ap1", "trace", window, 500, 1, 2, 3, capacity_kbps, reservable_kbps, tuple(slices)
    )


def quantiles(*upper_kbps: float) -> FloatArray:
    return np.array([[0.8 * q, 0.9 * q, q] for q in upper_kbps])


def plan_of(
    policy: Policy, seen: CellEvent, forecast: FloatArray, state: CellState | None = None
) -> tuple[CellState, tuple[PlannedReservation, ...] | None]:
    return planned(policy, observed(policy, state or CellState(), seen), seen, forecast)


# -- history ---------------------------------------------------------------------------------------


def test_the_first_sample_stands_for_those_before_it() -> None:
    seen = event(slice_state(demand_kbps=700.0), slice_state(2, 80.0))
    history = histories(observed(POLICY, CellState(), seen), seen, 20)
    assert history.shape == (2, 20, 2)
    assert (history[0] == [700.0, 2.0]).all()
    assert (history[1] == [80.0, 2.0]).all()


def test_samples_are_kept_oldest_first_and_missing_windows_repeat() -> None:
    state = CellState()
    for window, demand_kbps in ((5, 100.0), (6, 200.0), (9, 500.0)):
        seen = event(slice_state(demand_kbps=demand_kbps), window=window)
        state = observed(POLICY, state, seen)
    assert histories(state, seen, 6)[0, :, 0].tolist() == [100, 100, 200, 200, 200, 500]


def test_a_long_gap_is_filled_only_as_far_as_is_kept() -> None:
    state = observed(POLICY, CellState(), event(slice_state(), window=0))
    state = observed(POLICY, state, event(slice_state(demand_kbps=1.0), window=10**9))
    assert state.samples[1].shape == (POLICY.kept_samples, 2)
    assert state.samples[1][-2:, 0].tolist() == [2000.0, 1.0]


@pytest.mark.parametrize("window", [99, 100])
def test_windows_seen_already_change_nothing(window: int) -> None:
    state = observed(POLICY, CellState(), event(slice_state(), window=100))
    assert observed(POLICY, state, event(slice_state(demand_kbps=9.0), window=window)) is state


def test_a_slice_that_appears_later_has_its_own_history() -> None:
    state = observed(POLICY, CellState(), event(slice_state(), window=1))
    both = event(slice_state(), slice_state(2, 300.0), window=2)
    history = histories(observed(POLICY, state, both), both, 3)
    assert history[1, :, 0].tolist() == [300, 300, 300]


# -- plan ------------------------------------------------------------------------------------------


def test_reserves_upper_quantile_plus_margin_by_class() -> None:
    seen = event(slice_state(min_kbps=1000), slice_state(2, 500, 500, 500, "real_time"))
    state, plan = plan_of(POLICY, seen, quantiles(2500.0, 1000.0))
    assert plan is not None
    assert [(r.min_kbps, r.max_kbps) for r in plan] == [(2750, 3575), (1200, 1200)]
    assert [r.predicted_kbps for r in plan] == [2000.0, 800.0]
    assert [r.s_nssai for r in plan] == [VIDEO, CONTROL]
    assert state.decided_window == 100
    assert state.lowered_window is None


def test_floors_hold_without_demand() -> None:
    seen = event(slice_state(), slice_state(2, 0, 3000, 3000, "real_time", users=0))
    _, plan = plan_of(POLICY, seen, quantiles(0.0, 0.0))
    assert plan is not None
    assert [r.min_kbps for r in plan] == [100, 400]


@pytest.mark.parametrize(("upper_kbps", "decides"), [(2650, False), (3000, True), (2450, False)])
def test_small_changes_are_not_worth_a_decision(upper_kbps: float, decides: bool) -> None:
    """Held 3000: wanted 2915 and 2695 lie within the band, 3190 is more than it allows."""
    _, plan = plan_of(POLICY, event(slice_state()), quantiles(upper_kbps))
    assert (plan is not None) == decides


def test_lowers_at_most_every_two_seconds_but_raises_at_once() -> None:
    policy, state = replace(POLICY, lower_interval_ms=2000), CellState()
    lowered = []
    for window in range(100, 109):
        seen = event(slice_state(min_kbps=3000), window=window)
        state, plan = plan_of(policy, seen, quantiles(1000.0), state)
        if plan is not None:
            lowered.append(window)
    assert lowered == [100, 104, 108]
    seen = event(slice_state(min_kbps=3000), window=109)
    _, plan = plan_of(policy, seen, quantiles(5000.0), state)
    assert plan is not None
    assert plan[0].min_kbps == 5500


def test_one_decision_per_cell_and_half_second() -> None:
    state = CellState()
    decided = []
    for window in range(10):
        seen = replace(event(slice_state(min_kbps=100), window=window), period_ms=100)
        state, plan = plan_of(POLICY, seen, quantiles(5000.0), state)
        if plan is not None:
            decided.append(window)
    assert decided == [0, 5]


def test_a_slice_that_will_do_keeps_exactly_what_it_has() -> None:
    seen = event(slice_state(min_kbps=1000), slice_state(2, 500, 1250, 1300, "real_time"))
    _, plan = plan_of(POLICY, seen, quantiles(2500.0, 1000.0))
    assert plan is not None
    assert (plan[1].min_kbps, plan[1].max_kbps) == (1250, 1300)


def test_room_for_one_is_made_from_what_another_does_not_need() -> None:
    held = slice_state(2, 500, 9000, 9900)
    seen = event(slice_state(min_kbps=5000, max_kbps=7000), held, reservable_kbps=15_000)
    state = replace(CellState(), lowered_window=99)  # lowering would not be due yet
    _, plan = plan_of(POLICY, seen, quantiles(8000.0, 1000.0), state)
    assert plan is not None
    assert [r.min_kbps for r in plan] == [8800, 1100]


def test_what_the_guard_lets_one_decision_move() -> None:
    seen = event(slice_state(min_kbps=100, max_kbps=200))
    _, plan = plan_of(POLICY, seen, quantiles(9000.0))
    assert plan is not None
    assert (plan[0].min_kbps, plan[0].max_kbps) == (2200, 2400)


def test_no_ceiling_above_the_cell() -> None:
    seen = event(slice_state(min_kbps=9000, max_kbps=9900), capacity_kbps=10_000)
    _, plan = plan_of(POLICY, replace(seen, reservable_kbps=10_000), quantiles(9000.0))
    assert plan is not None
    assert (plan[0].min_kbps, plan[0].max_kbps) == (9900, 10_000)


def test_a_cell_without_slices_is_left_alone() -> None:
    seen = event()
    assert planned(POLICY, CellState(window=100), seen, np.empty((0, 3)))[1] is None


def test_probable_needs_go_before_improbable_ones() -> None:
    """Slice 1 surely needs 8000; that slice 2 may need 9000 must not take it away."""
    surely, perhaps = [8000.0, 8000.0, 8000.0], [500.0, 500.0, 9000.0]
    seen = event(slice_state(), slice_state(2, 500.0), reservable_kbps=10_000)
    got = wanted(replace(POLICY, margin_ratio=0.0), seen, np.array([surely, perhaps]))
    assert got.tolist() == [8000, 2000]


def test_real_time_first_then_elastic_in_proportion() -> None:
    levels = np.array([[0.0, 6000.0], [0.0, 12_000.0], [0.0, 4000.0]])
    real_time = np.array([False, False, True])
    assert fitted(levels, real_time, 10_000).tolist() == [2000, 4000, 4000]
    assert fitted(levels, real_time, 3000).tolist() == [0, 0, 3000]
    assert fitted(levels, real_time, 30_000).tolist() == [6000, 12_000, 4000]


def test_whatever_is_wished_fits_what_is_reservable() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        count = int(random.integers(1, 6))
        classes = random.choice(["elastic", "real_time"], count)
        states = [slice_state(i + 1, traffic_class=str(c)) for i, c in enumerate(classes)]
        seen = event(*states, reservable_kbps=float(random.uniform(50, 20_000)))
        forecast = np.sort(random.uniform(0, 20_000, (count, 3)), axis=1)
        got = wanted(POLICY, seen, forecast)
        assert got.sum() <= seen.reservable_kbps + 1e-6
        assert (got >= 0).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"margin": 0.1}, "unknown setting 'margin'; known: ceiling_ratio"),
        ({"margin_ratio": "0.1"}, "margin_ratio is '0.1'; a number"),
        ({"margin_ratio": -0.1}, "margin_ratio is -0.1; 0 or more"),
        ({"lower_interval_ms": 0.5}, "lower_interval_ms is 0.5"),
        ({"ceiling_ratio": 0.5}, "ceiling_ratio must be 1 or more"),
        ({"floor_kbps": float("nan")}, "floor_kbps is nan"),
        ({"kept_samples": True}, "kept_samples is True"),
    ],
)
def test_wrong_settings_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Policy.from_config(config)


def test_settings_reach_the_policy() -> None:
    assert Policy.from_config({"margin_ratio": 1, "kept_samples": 40}) == Policy(
        margin_ratio=1.0, kept_samples=40
    )
