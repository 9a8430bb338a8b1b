"""Positions on loops: continuous, at the stated speed, closed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.mobility import loop_length_m, position_m, speed_mps
from topologies.scenario.schema import LoopMobility, StaticMobility

SQUARE = LoopMobility(
    waypoints_m=[(0, 0), (100, 0), (100, 100), (0, 100)], speed_mps=10, start_jitter_ratio=0
)


def test_static_stays() -> None:
    spot = StaticMobility(position_m=(3, 4))
    assert position_m(spot, 1, "ue1", 99.0) == (3, 4)
    assert speed_mps(spot) == 0


@pytest.mark.parametrize(
    ("t_s", "place"), [(0, (0, 0)), (5, (50, 0)), (10, (100, 0)), (25, (50, 100)), (45, (50, 0))]
)
def test_square(t_s: float, place: tuple[float, float]) -> None:
    assert position_m(SQUARE, 1, "car", t_s) == pytest.approx(place)
    assert loop_length_m(SQUARE) == 400


def test_offset_starts_further_along() -> None:
    half = SQUARE.model_copy(update={"offset_ratio": 0.5})
    assert position_m(half, 1, "car", 0.0) == pytest.approx((100, 100))


@given(st.integers(0, 10_000), st.floats(0, 500), st.floats(0.001, 0.5))
def test_never_faster_than_its_speed(seed: int, t_s: float, step_s: float) -> None:
    loop = SQUARE.model_copy(update={"start_jitter_ratio": 0.1, "seed_start_ratio": 1.0})
    moved_m = math.dist(
        position_m(loop, seed, "car", t_s), position_m(loop, seed, "car", t_s + step_s)
    )
    assert moved_m <= speed_mps(loop) * step_s + 1e-6
    assert moved_m >= speed_mps(loop) * step_s / math.sqrt(2) - 1e-6  # cutting a corner


def test_seed_moves_all_loops_together_and_each_a_little() -> None:
    loop = SQUARE.model_copy(update={"start_jitter_ratio": 0.01, "seed_start_ratio": 1.0})
    starts = {s: [position_m(loop, s, n, 0.0) for n in ("a", "b")] for s in range(4)}
    assert all(0 < math.dist(*pair) <= 0.02 * 400 for pair in starts.values())
    assert max(math.dist(starts[0][0], starts[s][0]) for s in range(1, 4)) > 20
