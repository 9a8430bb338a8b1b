"""Where training data come from: scenarios as a fluid, random slices, real traces.

A `Series` is what a cell's twin would show of one slice, one sample per window of
half a second: mean demand, and users with a session, both counted where the user
was attached at the window's end (a report goes to the cell that serves by then).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.demand_forecast.shape import (
    HISTORY_STEPS,
    HORIZON_STEPS,
    SAMPLE_PERIOD_S,
    USERS_SCALE,
)
from models.traces import Trace
from topologies.fluid import downlink_flows_kbps, serving_index, step_times_s, with_seed
from topologies.scenario.schema import Scenario

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

SUBSTEPS = 5
FRAME_KBIT = 9.9
"""A full frame of 1,242 bytes: what counting whole packets in a window adds of noise."""


@dataclass(frozen=True)
class Series:
    """One slice in one cell, arrays [window]; `source` names where it came from."""

    source: str
    demand_kbps: FloatArray
    users: FloatArray
    capacity_kbps: float


@dataclass(frozen=True)
class Windows:
    """Samples for training: `history` [n, 20, 2] and `target` [n], the maximum to come."""

    history: Float32Array
    target: Float32Array

    @classmethod
    def joined(cls, parts: Iterable[Windows]) -> Windows:
        found = list(parts)
        return cls(
            np.concatenate([part.history for part in found]),
            np.concatenate([part.target for part in found]),
        )

    def digest(self) -> str:
        """SHA-256 of the samples: equal exactly when training sees the same."""
        return hashlib.sha256(self.history.tobytes() + self.target.tobytes()).hexdigest()

    def thinned(self, count: int, random: np.random.Generator) -> Windows:
        """At most `count` of them, drawn without replacement."""
        if len(self.target) <= count:
            return self
        chosen = np.sort(random.choice(len(self.target), count, replace=False))
        return Windows(self.history[chosen], self.target[chosen])


def windows_of(series: Series, horizon_steps: int = HORIZON_STEPS) -> Windows:
    """Every history in the series that has a whole horizon behind it.

    Early ones are padded with the first sample, as a planner does after its start.
    """
    demand = series.demand_kbps / series.capacity_kbps
    rows = np.stack([demand, series.users / USERS_SCALE], axis=1)
    padded = np.concatenate([np.repeat(rows[:1], HISTORY_STEPS - 1, axis=0), rows])
    history = np.lib.stride_tricks.sliding_window_view(padded, HISTORY_STEPS, axis=0)
    future = np.lib.stride_tricks.sliding_window_view(demand[1:], horizon_steps).max(axis=1)
    kept = history[: len(future)].transpose(0, 2, 1)
    return Windows(kept.astype(np.float32), future.astype(np.float32))


def scenario_series(scenario: Scenario, seed: int, duration_s: float) -> list[Series]:
    """Every (cell, slice) of a scenario under a seed."""
    scenario = with_seed(scenario, seed)
    random = np.random.default_rng(seed)
    t_s = step_times_s(duration_s, SAMPLE_PERIOD_S / SUBSTEPS)
    ends_s = step_times_s(duration_s, SAMPLE_PERIOD_S) + SAMPLE_PERIOD_S / 2
    serving = {u.name: serving_index(scenario, u.name, ends_s) for u in scenario.users}
    index = {s.name: i for i, s in enumerate(scenario.slices)}
    shape = (len(scenario.access_points), len(scenario.slices), ends_s.size)
    demand_kbps, users = np.zeros(shape), np.zeros(shape)
    windows = np.arange(ends_s.size)
    for user, slice_name, flow_kbps in downlink_flows_kbps(scenario, t_s):
        mean_kbps = flow_kbps.reshape(-1, SUBSTEPS).mean(axis=1)
        demand_kbps[serving[user], index[slice_name], windows] += mean_kbps
    for spec in scenario.users:
        for slice_name in spec.slices:
            users[serving[spec.name], index[slice_name], windows] += 1
    return [
        Series(
            f"{scenario.name}/{seed}/{ap.name}/{slice_.name}",
            counted(demand_kbps[row, column], random),
            users[row, column],
            1000.0 * ap.down_mbps,
        )
        for row, ap in enumerate(scenario.access_points)
        for column, slice_ in enumerate(scenario.slices)
    ]


def counted(demand_kbps: FloatArray, random: np.random.Generator) -> FloatArray:
    """A fluid as a receiver counts it: whole frames, and a sender's timer that slips a little."""
    frames = FRAME_KBIT / SAMPLE_PERIOD_S * random.uniform(-1.0, 1.0, demand_kbps.shape)
    slip = 1.0 + 0.01 * random.standard_normal(demand_kbps.shape)
    return np.where(demand_kbps > 0, np.maximum(demand_kbps * slip + frames, 0.0), 0.0)


def random_series(random: np.random.Generator, duration_s: float) -> Series:
    """A slice nobody designed: users with swings of any shape who come and go.

    Periods 8-40 s, ramps 0-5 s, levels 0.3-12 Mbit/s; the users' swings share a
    period in half of the slices; a user's stay starts and ends as a jump.
    """
    t_s = step_times_s(duration_s, SAMPLE_PERIOD_S)
    members = int(random.integers(1, 7))
    shared_period_s = random.uniform(8.0, 40.0) if random.random() < 0.5 else None
    total_kbps, users = np.zeros(t_s.size), np.zeros(t_s.size)
    for _ in range(members):
        here = _presence(random, t_s)
        total_kbps += here * _swing_kbps(random, t_s, shared_period_s)
        users += here
    resting_kbps = random.uniform(0.0, 500.0) if random.random() < 0.5 else 0.0
    demand_kbps = counted((total_kbps + resting_kbps * (users > 0)), random)
    capacity_kbps = max(float(demand_kbps.max()) * random.uniform(0.8, 5.0), 5000.0)
    return Series("random", demand_kbps, users, capacity_kbps)


def _presence(random: np.random.Generator, t_s: FloatArray) -> FloatArray:
    """1 while the user is in the cell: always for half of them, else stays of 5-60 s."""
    if random.random() < 0.5:
        return np.ones(t_s.size)
    here = np.zeros(t_s.size)
    inside, at_s = bool(random.random() < 0.5), 0.0
    while at_s < t_s[-1]:
        stay_s = random.uniform(5.0, 60.0)
        if inside:
            here[(t_s >= at_s) & (t_s < at_s + stay_s)] = 1.0
        inside, at_s = not inside, at_s + stay_s
    return here


def _swing_kbps(
    random: np.random.Generator, t_s: FloatArray, shared_period_s: float | None
) -> FloatArray:
    period_s = shared_period_s or random.uniform(8.0, 40.0)
    ramp_s = min(random.uniform(0.0, 5.0), 0.2 * period_s)
    high_s = random.uniform(0.1, 0.6) * period_s
    high_kbps = 1000.0 * float(np.exp(random.uniform(np.log(0.3), np.log(12.0))))
    low_kbps = high_kbps * random.uniform(0.02, 0.9)
    corners_s = [0.0, ramp_s, ramp_s + high_s, 2 * ramp_s + high_s, period_s]
    levels_kbps = [low_kbps, high_kbps, high_kbps, low_kbps, low_kbps]
    position_s = np.mod(t_s + random.uniform(0.0, period_s), period_s)
    noise_ratio = random.uniform(0.0, 0.1)
    phases = random.uniform(0.0, 2 * np.pi, 4)
    tones = 2 * np.pi / random.uniform(2.0, 12.0, 4)
    noise = np.sin(np.multiply.outer(t_s, tones) + phases).mean(axis=1)
    levels = np.interp(position_s, corners_s, levels_kbps)
    return np.asarray(levels * (1.0 + noise_ratio * noise))


def trace_series(
    traces: Sequence[Trace], count: int, duration_s: float, random: np.random.Generator
) -> list[Series]:
    """Slices of 2-8 users, each a random stretch of a real trace's downlink."""
    steps = round(duration_s / SAMPLE_PERIOD_S)
    sampled = [trace.sampled("downlink_kbps", SAMPLE_PERIOD_S) for trace in traces]
    long_enough = [s for s in sampled if s.size > steps]
    if not long_enough:
        return []
    series = []
    for _ in range(count):
        members = int(random.integers(2, 9))
        total_kbps = np.zeros(steps)
        for place in random.integers(0, len(long_enough), members):
            start = int(random.integers(0, long_enough[place].size - steps))
            total_kbps += long_enough[place][start : start + steps]
        capacity_kbps = max(float(np.quantile(total_kbps, 0.99)) * random.uniform(1.0, 3.0), 5000.0)
        clipped_kbps = counted(np.minimum(total_kbps, 2 * capacity_kbps), random)
        users = np.full(steps, float(members))
        series.append(Series("5g-traces", clipped_kbps, users, capacity_kbps))
    return series
