"""slice-planner: its pure planner with scripted events, its forecasters, and both in a loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from holon_xapp import (
    CellEvent,
    PlannedReservation,
    Reservation,
    SliceState,
    SNssai,
    load_model,
)

from benchmarks.fluid_policies import judge
from models.demand_forecast.dataset import scenario_series
from topologies.fluid import cell_slice_demand
from topologies.scenario.loader import load
from xapps.slice_planner.forecasters import (
    Forecaster,
    OnnxForecaster,
    PersistenceForecaster,
    SmoothingForecaster,
    forecaster,
)
from xapps.slice_planner.planner import (
    CellState,
    ConfigError,
    FloatArray,
    Policy,
    fitted,
    histories,
    observed,
    planned,
    wanted,
)

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "demand_forecast"
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
    assert [(r.min_kbps, r.max_kbps) for r in plan] == [(2750, 3750), (1200, 1200)]
    assert [r.predicted_kbps for r in plan] == [2000.0, 800.0]
    assert [r.s_nssai for r in plan] == [VIDEO, CONTROL]
    assert state.decided_window == 100
    assert state.lowered_window is None


def test_floors_hold_without_demand() -> None:
    seen = event(slice_state(), slice_state(2, 0, 3000, 3000, "real_time", users=0))
    _, plan = plan_of(POLICY, seen, quantiles(0.0, 0.0))
    assert plan is not None
    assert [r.min_kbps for r in plan] == [150, 400]


@pytest.mark.parametrize(("upper_kbps", "decides"), [(2650, False), (2900, True), (2450, False)])
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
    with pytest.raises(ConfigError, match=message):
        Policy.from_config(config)


def test_settings_reach_the_policy() -> None:
    assert Policy.from_config({"margin_ratio": 1, "kept_samples": 40}) == Policy(
        margin_ratio=1.0, kept_samples=40
    )


# -- forecasters -----------------------------------------------------------------------------------


def onnx() -> Forecaster:
    return OnnxForecaster(load_model(MODEL_FOLDER))


ALL = {"onnx": onnx, "smoothing": SmoothingForecaster, "persistence": PersistenceForecaster}


@pytest.mark.parametrize("name", ALL)
def test_quantiles_rise_and_are_never_negative(name: str) -> None:
    forecast = ALL[name]()
    random = np.random.default_rng(2)
    history = random.uniform(0, 9000, (4, forecast.steps, 2))
    history[3] = 0.0
    history[2, :-5] = history[2, 0]  # a short history, padded
    got = forecast(history, 20_000.0)
    assert got.shape == (4, 3)
    assert (got >= 0).all()
    assert (np.diff(got, axis=1) >= -1e-9).all()


@pytest.mark.parametrize("name", ALL)
def test_steady_demand_is_forecast_to_stay(name: str) -> None:
    forecast = ALL[name]()
    history = np.tile([4000.0, 2.0], (1, forecast.steps, 1))
    median_kbps = forecast(history, 20_000.0)[0, 0]
    assert median_kbps == pytest.approx(4000.0, rel=0.15)


@pytest.mark.parametrize("name", ["onnx", "smoothing"])
def test_a_ramp_is_anticipated(name: str) -> None:
    """1 Mbit/s steady, then 0.75 Mbit/s more per sample for 2 s: 3 Mbit/s more are to come."""
    forecast = ALL[name]()
    ramp = np.concatenate([np.full(forecast.steps - 4, 1000.0), 1000.0 + 750.0 * np.arange(1, 5)])
    history = np.stack([ramp, np.full(forecast.steps, 2.0)], axis=1)[None]
    assert forecast(history, 20_000.0)[0, 2] > 1.3 * ramp[-1]


def test_smoothing_learns_its_margin_from_its_own_errors() -> None:
    forecast = SmoothingForecaster()
    random = np.random.default_rng(3)
    demand = np.stack([np.full(120, 3000.0), random.uniform(1000.0, 5000.0, 120)])
    demand[0, 0] = 2999.0  # a change, so that nothing of it counts as padding
    history = np.stack([demand, np.ones((2, 120))], axis=2)
    spread = forecast(history, 20_000.0)
    assert spread[0, 2] - spread[0, 0] < 50.0
    assert spread[1, 2] - spread[1, 0] > 1000.0


def test_forecasters_by_name() -> None:
    def broken() -> None:
        raise AssertionError("only onnx needs the model")

    assert isinstance(forecaster("exponential_smoothing", broken), SmoothingForecaster)  # type: ignore[arg-type]
    assert isinstance(forecaster("persistence", broken), PersistenceForecaster)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown forecaster 'lstm'; known: onnx"):
        forecaster("lstm", broken)  # type: ignore[arg-type]


# -- closed loop on the fluid model ----------------------------------------------------------------

DURATION_S = 90.0
STEPS_PER_WINDOW = 5
DELAY_STEPS = 2
"""Of 0.1 s: from the window's end until the queues have the new rates."""
WARMUP_WINDOWS = 10


def closed_loop(name: str, seed: int, forecast: Forecaster, policy: Policy) -> FloatArray:
    """Guaranteed rates [cell, slice, step of 0.1 s] that the planner gave itself."""
    scenario = load(name)
    series = scenario_series(scenario, seed, DURATION_S)
    shape = (len(scenario.access_points), len(scenario.slices))
    windows = series[0].demand_kbps.size
    held = np.full((*shape, 2), 2000.0)
    reserved = np.empty((*shape, windows * STEPS_PER_WINDOW))
    states = [CellState()] * shape[0]
    previous = held[:, :, :1].copy()
    for window in range(windows):
        first = window * STEPS_PER_WINDOW
        # What was decided at the end of the window before comes into force a little later.
        reserved[:, :, first : first + DELAY_STEPS] = previous
        reserved[:, :, first + DELAY_STEPS : first + STEPS_PER_WINDOW] = held[:, :, :1]
        previous = held[:, :, :1].copy()
        for cell, access_point in enumerate(scenario.access_points):
            row = series[cell * shape[1] : (cell + 1) * shape[1]]
            capacity_kbps = 1000.0 * access_point.down_mbps
            seen = CellEvent(
                access_point.name,
                "trace",
                window,
                500,
                0,
                0,
                0,
                capacity_kbps,
                scenario.reservable_ratio * capacity_kbps,
                tuple(
                    replace(
                        slice_state(slice_.slice_id, float(s.demand_kbps[window])),
                        users=int(s.users[window]),
                        traffic_class=slice_.default_class.value,
                        reservation=Reservation(*held[cell, column]),
                    )
                    for column, (slice_, s) in enumerate(zip(scenario.slices, row, strict=True))
                ),
            )
            states[cell] = observed(policy, states[cell], seen)
            history = histories(states[cell], seen, forecast.steps)
            states[cell], plan = planned(
                policy, states[cell], seen, forecast(history, capacity_kbps)
            )
            if plan is not None:
                assert sum(r.min_kbps for r in plan) <= seen.reservable_kbps
                held[cell] = [(r.min_kbps, r.max_kbps) for r in plan]
    return reserved


def outcome(name: str, seeds: range, forecast: Forecaster) -> tuple[float, float]:
    """Mean share of satisfied windows and reserved Mbit/s, after the warm-up."""
    first = WARMUP_WINDOWS * STEPS_PER_WINDOW
    results = []
    for seed in seeds:
        demand = cell_slice_demand(load(name), seed, DURATION_S, 0.1)
        reserved = closed_loop(name, seed, forecast, Policy())
        judged = judge(load(name), demand[:, :, first:], reserved[:, :, first:])
        results.append((judged.mean_ratio, judged.reserved_mbps))
    satisfied, reserved_mbps = np.mean(results, axis=0)
    return float(satisfied), float(reserved_mbps)


def static_outcome(name: str, seeds: range) -> tuple[float, float]:
    """The same of the scenario's committed static split."""
    scenario = load(name)
    cells = [ap.name for ap in scenario.access_points]
    slices = [s.name for s in scenario.slices]
    split = np.zeros((len(cells), len(slices), 1))
    for spec in scenario.static_reservations:
        split[cells.index(spec.access_point), slices.index(spec.slice)] = 1000 * spec.min_mbps
    first = WARMUP_WINDOWS * STEPS_PER_WINDOW
    results = []
    for seed in seeds:
        demand = cell_slice_demand(scenario, seed, DURATION_S, 0.1)[:, :, first:]
        judged = judge(scenario, demand, np.broadcast_to(split, demand.shape))
        results.append((judged.mean_ratio, judged.reserved_mbps))
    satisfied, reserved_mbps = np.mean(results, axis=0)
    return float(satisfied), float(reserved_mbps)


def test_planner_satisfies_more_than_the_static_split_and_reserves_less() -> None:
    seeds = range(1, 7)  # neither trained on nor used for the grid search
    model = outcome("crossroads", seeds, onnx())
    static = static_outcome("crossroads", seeds)
    print(f"xapps {model}, static {static}")
    assert model[0] > 0.97
    assert model[0] > static[0] + 0.02
    assert model[1] < static[1]


def test_the_learned_forecast_is_worth_more_than_smoothing() -> None:
    seeds = range(1, 4)
    model = outcome("crossroads", seeds, onnx())
    smoothing = outcome("crossroads", seeds, SmoothingForecaster())
    print(f"onnx {model}, smoothing {smoothing}")
    assert model[0] > smoothing[0]
    assert model[1] <= smoothing[1]
