"""How much a flow wants to send at a time: pure functions of (demand, seed, flow, time).

Rates are L2 Mbit/s.  The same arguments give the same rate in every process, so
senders, results and model training agree without talking to each other.
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from topologies.scenario.schema import ConstantDemand, Demand, SwingDemand

FloatArray = npt.NDArray[np.float64]

NOISE_TONES = 4
NOISE_SHORTEST_S = 3.0
NOISE_LONGEST_S = 12.0
"""Periods of the noise: slow enough for a half-second window to see it coming."""


def rate_mbps(demand: Demand, seed: int, flow_name: str, t_s: float) -> float:
    """Wanted rate at scenario time `t_s`, never negative."""
    if isinstance(demand, ConstantDemand):
        return demand.mbps
    level = _trapezoid(demand, _position(demand, seed, flow_name, t_s))
    return level * (1.0 + demand.noise_ratio * _noise(seed, flow_name, t_s))


def rates_mbps(demand: Demand, seed: int, flow_name: str, t_s: FloatArray) -> FloatArray:
    """`rate_mbps` for every time of an array, shape as `t_s`."""
    if isinstance(demand, ConstantDemand):
        return np.full(t_s.shape, demand.mbps)
    position_s = np.mod(t_s + _shift_s(demand, seed, flow_name), demand.period_s)
    corners_s, levels = _corners(demand)
    amplitudes, omegas, phases = _tones(seed, flow_name)
    angles = np.multiply.outer(t_s, np.array(omegas)) + np.array(phases)
    noise = np.sin(angles) @ np.array(amplitudes)
    level = np.interp(position_s, corners_s, levels)
    return np.asarray(level * (1.0 + demand.noise_ratio * noise), dtype=np.float64)


def stable_generator(seed: int, *words: str) -> np.random.Generator:
    """A generator that depends on nothing but its arguments (unlike `hash`)."""
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in words)])


def _position(demand: SwingDemand, seed: int, flow_name: str, t_s: float) -> float:
    return (t_s + _shift_s(demand, seed, flow_name)) % demand.period_s


def _shift_s(demand: SwingDemand, seed: int, flow_name: str) -> float:
    shared, own = _phase_draws(seed, flow_name)
    ratio = demand.seed_phase_ratio * shared + demand.phase_jitter_ratio * own
    return (ratio - demand.phase_ratio) * demand.period_s


@lru_cache(maxsize=4096)
def _phase_draws(seed: int, flow_name: str) -> tuple[float, float]:
    """In 0-1: the seed's share for all flows, and this flow's own."""
    shared = stable_generator(seed, "shared phase").random()
    return float(shared), float(stable_generator(seed, "phase", flow_name).random())


def _corners(demand: SwingDemand) -> tuple[list[float], list[float]]:
    """The trapezoid over one period: times in seconds and levels in Mbit/s."""
    high_until_s = demand.ramp_s + demand.high_ratio * demand.period_s
    low_from_s = high_until_s + demand.ramp_s
    low, high = demand.low_mbps, demand.high_mbps
    return [0.0, demand.ramp_s, high_until_s, low_from_s, demand.period_s], [
        low,
        high,
        high,
        low,
        low,
    ]


def _trapezoid(demand: SwingDemand, position_s: float) -> float:
    ramp_s, rise = demand.ramp_s, demand.high_mbps - demand.low_mbps
    high_until_s = ramp_s + demand.high_ratio * demand.period_s
    if position_s < ramp_s:
        return demand.low_mbps + rise * position_s / ramp_s
    if position_s < high_until_s:
        return demand.high_mbps
    if position_s < high_until_s + ramp_s:
        return demand.high_mbps - rise * (position_s - high_until_s) / ramp_s
    return demand.low_mbps


def _noise(seed: int, flow_name: str, t_s: float) -> float:
    """Between -1 and 1, smooth."""
    amplitudes, omegas, phases = _tones(seed, flow_name)
    return sum(
        a * math.sin(w * t_s + p) for a, w, p in zip(amplitudes, omegas, phases, strict=True)
    )


@lru_cache(maxsize=4096)
def _tones(
    seed: int, flow_name: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Amplitudes (they sum to 1), angular frequencies (1/s) and phases of the noise."""
    draw = stable_generator(seed, "noise", flow_name)
    weights = draw.uniform(0.5, 1.0, NOISE_TONES)
    periods_s = draw.uniform(NOISE_SHORTEST_S, NOISE_LONGEST_S, NOISE_TONES)
    phases = draw.uniform(0.0, 2 * math.pi, NOISE_TONES)
    return (
        tuple((weights / weights.sum()).tolist()),
        tuple((2 * math.pi / periods_s).tolist()),
        tuple(phases.tolist()),
    )
