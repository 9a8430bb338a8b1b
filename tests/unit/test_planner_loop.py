"""slice-planner in a closed loop on the fluid model: what it is worth, before any packet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from holon_xapp import CellEvent, Reservation, SliceState, SNssai, load_model

from benchmarks.fluid_policies import judge
from models.demand_forecast.dataset import Series, scenario_series
from topologies.fluid import cell_slice_demand
from topologies.scenario.loader import load
from topologies.scenario.schema import Scenario
from xapps.slice_planner.forecasters import Forecaster, OnnxForecaster, SmoothingForecaster
from xapps.slice_planner.planner import (
    CellState,
    FloatArray,
    Policy,
    histories,
    observed,
    planned,
)

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "demand_forecast"
DURATION_S = 90.0
STEPS_PER_WINDOW = 5
DELAY_STEPS = 2
"""Of 0.1 s: from the window's end until the queues have the new rates."""
WARMUP_WINDOWS = 10
START_KBPS = 2000.0


@dataclass(frozen=True)
class Network:
    """A scenario's twins under a seed, cell by cell and slice by slice."""

    scenario: Scenario
    series: list[list[Series]]

    @classmethod
    def of(cls, name: str, seed: int) -> Network:
        scenario = load(name)
        flat = scenario_series(scenario, seed, DURATION_S)
        width = len(scenario.slices)
        return cls(scenario, [flat[i : i + width] for i in range(0, len(flat), width)])

    def event(self, cell: int, window: int, held: FloatArray) -> CellEvent:
        access_point = self.scenario.access_points[cell]
        capacity_kbps = 1000.0 * access_point.down_mbps
        slices = tuple(
            SliceState(
                slice_id=slice_.slice_id,
                s_nssai=SNssai(slice_.s_nssai.sst, slice_.s_nssai.sd),
                traffic_class=slice_.default_class.value,
                users=int(series.users[window]),
                demand_kbps=float(series.demand_kbps[window]),
                goodput_kbps=0.0,
                loss_ratio=0.0,
                owd_p95_ms=None,
                reservation=Reservation(*held[column]),
            )
            for column, (slice_, series) in enumerate(
                zip(self.scenario.slices, self.series[cell], strict=True)
            )
        )
        reservable_kbps = self.scenario.reservable_ratio * capacity_kbps
        return CellEvent(
            access_point.name, "t", window, 500, 0, 0, 0, capacity_kbps, reservable_kbps, slices
        )


def closed_loop(name: str, seed: int, forecast: Forecaster, policy: Policy) -> FloatArray:
    """Guaranteed rates [cell, slice, step of 0.1 s] that the planner gave itself."""
    network = Network.of(name, seed)
    cells, width = len(network.series), len(network.series[0])
    windows = network.series[0][0].demand_kbps.size
    held = np.full((cells, width, 2), START_KBPS)
    reserved = np.empty((cells, width, windows * STEPS_PER_WINDOW))
    states = [CellState()] * cells
    before = held[:, :, :1].copy()
    for window in range(windows):
        first = window * STEPS_PER_WINDOW
        # What was decided at the end of the window before comes into force a little later.
        reserved[:, :, first : first + DELAY_STEPS] = before
        reserved[:, :, first + DELAY_STEPS : first + STEPS_PER_WINDOW] = held[:, :, :1]
        before = held[:, :, :1].copy()
        for cell in range(cells):
            seen = network.event(cell, window, held[cell])
            state = observed(policy, states[cell], seen)
            quantiles_kbps = forecast(histories(state, seen, forecast.steps), seen.capacity_kbps)
            states[cell], plan = planned(policy, state, seen, quantiles_kbps)
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
    model = outcome("crossroads", seeds, OnnxForecaster(load_model(MODEL_FOLDER)))
    static = static_outcome("crossroads", seeds)
    print(f"xapps {model}, static {static}")
    assert model[0] > 0.97
    assert model[0] > static[0] + 0.02
    assert model[1] < static[1]


def test_the_learned_forecast_is_worth_more_than_smoothing() -> None:
    seeds = range(1, 4)
    model = outcome("crossroads", seeds, OnnxForecaster(load_model(MODEL_FOLDER)))
    smoothing = outcome("crossroads", seeds, SmoothingForecaster())
    print(f"onnx {model}, smoothing {smoothing}")
    assert model[0] > smoothing[0]
    assert model[1] <= smoothing[1]
