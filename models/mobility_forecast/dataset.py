"""Where training data come from: the scenarios' mobility, and emulated roads driven at real speeds.

Positions in the public 5G traces are rounded to about 100 m, which says nothing of the
next seconds; their speeds are measured to 1 km/h every second.  So a drive is an
emulated road (blocks with turns, or curves) on which a real trace's speed moves the car.
Without traces, speeds are emulated too, and the source says so by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mobility_forecast.shape import (
    HISTORY_STEPS,
    HORIZONS_S,
    POSITION_SCALE_M,
    SAMPLE_PERIOD_S,
)
from models.traces import Trace
from topologies.mobility import position_m
from topologies.scenario.schema import Scenario

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

DRIVE_S = 180.0
_FINE_M = 1.0
_AHEAD_STEPS = [round(h / SAMPLE_PERIOD_S) for h in HORIZONS_S]


@dataclass(frozen=True)
class Ways:
    """Samples: `positions` [n, 13, 2] and `target` [n, 4, 2], scaled as the network wants."""

    positions: Float32Array
    target: Float32Array

    @classmethod
    def joined(cls, parts: Iterable[Ways]) -> Ways:
        found = list(parts)
        return cls(
            np.concatenate([p.positions for p in found]), np.concatenate([p.target for p in found])
        )

    def thinned(self, count: int, random: np.random.Generator) -> Ways:
        """At most `count` of them, drawn without replacement."""
        if len(self.target) <= count:
            return self
        chosen = np.sort(random.choice(len(self.target), count, replace=False))
        return Ways(self.positions[chosen], self.target[chosen])


def ways_of(track_m: FloatArray, reported_m: FloatArray | None = None) -> Ways:
    """Every history in a track [n, 2] (one sample a period) that has a whole horizon behind it.

    `reported_m`: the track as reported (rounded, noisy); the target is the true one.
    """
    seen = track_m if reported_m is None else reported_m
    count = len(track_m) - HISTORY_STEPS - _AHEAD_STEPS[-1] + 1
    if count <= 0:
        raise ValueError(f"a track of {len(track_m)} samples is shorter than history and horizon")
    history = np.lib.stride_tricks.sliding_window_view(seen, HISTORY_STEPS, axis=0)
    history = history[:count].transpose(0, 2, 1)
    newest = HISTORY_STEPS - 1 + np.arange(count)
    target = np.stack([track_m[newest + a] for a in _AHEAD_STEPS], axis=1)
    origin = history[:, -1:]
    return Ways(
        ((history - origin) / POSITION_SCALE_M).astype(np.float32),
        ((target - origin) / POSITION_SCALE_M).astype(np.float32),
    )


def scenario_tracks(scenario: Scenario, seed: int, duration_s: float) -> list[FloatArray]:
    """Every user's positions under a seed."""
    t_s = np.arange(0.0, duration_s, SAMPLE_PERIOD_S)
    return [
        np.array([position_m(u.mobility, seed, u.name, float(t)) for t in t_s])
        for u in scenario.users
    ]


def drive(random: np.random.Generator, speed_mps: FloatArray) -> FloatArray:
    """Positions of a car on a random road at these speeds, one per sample period."""
    way_m = np.concatenate([[0.0], np.cumsum(speed_mps[:-1] * SAMPLE_PERIOD_S)])
    road_m = _road(random, float(way_m[-1]) + 10.0)
    length_m = np.arange(len(road_m)) * _FINE_M
    return np.stack([np.interp(way_m, length_m, road_m[:, i]) for i in (0, 1)], axis=1)


def reported(random: np.random.Generator, track_m: FloatArray) -> FloatArray:
    """As a phone would report it: exact in half of the cases, else up to 1 m off."""
    if random.random() < 0.5:
        return track_m
    return track_m + random.normal(0.0, random.uniform(0.1, 1.0), track_m.shape)


def trace_speeds(
    traces: Sequence[Trace], count: int, random: np.random.Generator
) -> list[FloatArray]:
    """Stretches of real drives' speeds, m/s, one per sample period."""
    steps = round(DRIVE_S / SAMPLE_PERIOD_S)
    whole = [_smooth(t.sampled("speed_kmh", SAMPLE_PERIOD_S) / 3.6) for t in traces]
    driven = [s for s in whole if s.size > steps and s.mean() > 1.0]
    if not driven:
        return []
    found = []
    for place in random.integers(0, len(driven), count):
        start = int(random.integers(0, driven[place].size - steps))
        found.append(driven[place][start : start + steps])
    return found


def emulated_speeds(count: int, random: np.random.Generator) -> list[FloatArray]:
    """Stretches of constant speed with stops between, gently accelerated; no real trace in it."""
    steps = round(DRIVE_S / SAMPLE_PERIOD_S)
    found = []
    for _ in range(count):
        speed = np.zeros(steps)
        at = 0
        while at < steps:
            stay = int(random.integers(10, 80))
            speed[at : at + stay] = 0.0 if random.random() < 0.2 else random.uniform(1.0, 20.0)
            at += stay
        found.append(_smooth(speed, 6) if random.random() < 0.7 else speed)
    return found


def _smooth(speed: FloatArray, width: int = 4) -> FloatArray:
    """Whole km/h once a second become an even change."""
    padded = np.pad(speed, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def _road(random: np.random.Generator, length_m: float) -> FloatArray:
    """Points every metre: blocks with right-angled turns of some radius, or curves."""
    points = int(length_m / _FINE_M) + 2
    if random.random() < 0.6:
        bend = np.zeros(points)
        at = int(random.uniform(20, 200))
        while at < points:
            radius_m = random.uniform(1.0, 15.0)
            arc = max(1, int(radius_m * np.pi / 2))
            bend[at : at + arc] += random.choice([-1.0, 1.0, 0.0]) * (np.pi / 2) / arc
            at += arc + int(random.uniform(40, 300))
    else:
        knots = np.arange(0, points + 100, 100)
        bend = np.interp(np.arange(points), knots, random.normal(0.0, 0.006, knots.size))
    heading = random.uniform(0, 2 * np.pi) + np.cumsum(bend) * _FINE_M
    return np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * _FINE_M, axis=0)
