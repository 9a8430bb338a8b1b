"""Demand is a pure function: the same everywhere, within its levels, moved by the seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.demand import rate_mbps, rates_mbps
from topologies.scenario.schema import ConstantDemand, SwingDemand

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = SwingDemand(
    low_mbps=1, high_mbps=5, period_s=20, ramp_s=2, high_ratio=0.4,
    phase_jitter_ratio=0, noise_ratio=0,
)  # fmt: skip
swings = st.builds(
    SwingDemand,
    low_mbps=st.floats(0.1, 5),
    high_mbps=st.floats(5, 50),
    period_s=st.floats(10, 40),
    ramp_s=st.floats(0.5, 3),
    high_ratio=st.floats(0.05, 0.4),
    phase_ratio=st.floats(0, 0.99),
    phase_jitter_ratio=st.floats(0, 1),
    seed_phase_ratio=st.floats(0, 1),
    noise_ratio=st.floats(0, 0.5),
)


@pytest.mark.parametrize(
    ("t_s", "mbps"), [(0, 1), (1, 3), (2, 5), (10, 5), (11, 3), (12, 1), (19, 1), (21, 3)]
)
def test_trapezoid_without_seed(t_s: float, mbps: float) -> None:
    assert rate_mbps(PLAIN, 1, "flow", t_s) == pytest.approx(mbps)


def test_phase_delays() -> None:
    late = PLAIN.model_copy(update={"phase_ratio": 0.25})
    assert rate_mbps(late, 1, "flow", 6.0) == pytest.approx(rate_mbps(PLAIN, 1, "flow", 1.0))


def test_constant_is_constant() -> None:
    assert rate_mbps(ConstantDemand(mbps=2.5), 3, "flow", 17.0) == 2.5


@given(swings, st.integers(0, 2**31), st.floats(0, 1000))
def test_stays_within_levels_and_noise(demand: SwingDemand, seed: int, t_s: float) -> None:
    rate = rate_mbps(demand, seed, "flow", t_s)
    assert demand.low_mbps * (1 - demand.noise_ratio) - 1e-9 <= rate
    assert rate <= demand.high_mbps * (1 + demand.noise_ratio) + 1e-9


@given(swings, st.integers(0, 2**31))
def test_array_and_scalar_agree(demand: SwingDemand, seed: int) -> None:
    t_s = np.linspace(0, 90, 181)
    one_by_one = [rate_mbps(demand, seed, "flow-ue1", float(t)) for t in t_s]
    np.testing.assert_allclose(rates_mbps(demand, seed, "flow-ue1", t_s), one_by_one, atol=1e-6)


def test_steps_without_ramps() -> None:
    steps = PLAIN.model_copy(update={"ramp_s": 0.0})
    t_s = np.array([0.0, 7.9, 8.0, 19.9, 20.0])
    np.testing.assert_allclose(rates_mbps(steps, 1, "flow", t_s), [5, 5, 1, 1, 5])
    assert [rate_mbps(steps, 1, "flow", float(t)) for t in t_s] == [5, 5, 1, 1, 5]


def test_same_in_every_process() -> None:
    code = (
        "from topologies.demand import rate_mbps\n"
        "from topologies.scenario.schema import SwingDemand\n"
        "demand = SwingDemand(low_mbps=1, high_mbps=5, period_s=20, seed_phase_ratio=1)\n"
        "print([rate_mbps(demand, 7, 'video-ue1', t) for t in range(30)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_seeds_and_flows_differ() -> None:
    demand = SwingDemand(low_mbps=1, high_mbps=5, period_s=20, seed_phase_ratio=1)
    t_s = np.arange(0, 60, 0.5)
    curves = [rates_mbps(demand, seed, name, t_s) for seed in (1, 2) for name in ("a", "b")]
    for index, one in enumerate(curves):
        assert all(np.abs(one - other).max() > 0.1 for other in curves[index + 1 :])


def test_shared_phase_moves_all_flows_alike() -> None:
    demand = PLAIN.model_copy(update={"seed_phase_ratio": 1.0})
    t_s = np.arange(0, 60, 0.5)
    for seed in range(5):
        a, b = (rates_mbps(demand, seed, name, t_s) for name in ("a", "b"))
        np.testing.assert_allclose(a, b)
    assert np.abs(rates_mbps(demand, 0, "a", t_s) - rates_mbps(demand, 1, "a", t_s)).max() > 0.5
