"""Where users are: pure functions of (mobility, seed, name, time), metres and seconds."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

from topologies.demand import stable_generator
from topologies.scenario.schema import LoopMobility, Mobility, PositionM, StaticMobility


def position_m(mobility: Mobility, seed: int, name: str, t_s: float) -> PositionM:
    """(x, y) of user `name` at scenario time `t_s`."""
    if isinstance(mobility, StaticMobility):
        return mobility.position_m
    length_m = loop_length_m(mobility)
    start_m = (mobility.offset_ratio + _shift_ratio(mobility, seed, name)) * length_m
    return _along(mobility, (start_m + mobility.speed_mps * t_s) % length_m)


def speed_mps(mobility: Mobility) -> float:
    """Speed in m/s; constant for the kinds of mobility there are."""
    return mobility.speed_mps if isinstance(mobility, LoopMobility) else 0.0


def loop_length_m(mobility: LoopMobility) -> float:
    """Length of the closed polyline."""
    return sum(math.dist(a, b) for a, b in _edges(mobility))


def _edges(mobility: LoopMobility) -> list[tuple[PositionM, PositionM]]:
    return list(pairwise([*mobility.waypoints_m, mobility.waypoints_m[0]]))


def _shift_ratio(mobility: LoopMobility, seed: int, name: str) -> float:
    shared, own = _start_draws(seed, name)
    return mobility.seed_start_ratio * shared + mobility.start_jitter_ratio * own


@lru_cache(maxsize=4096)
def _start_draws(seed: int, name: str) -> tuple[float, float]:
    """The seed's share for all loops, 0-1, and this user's own, -1 to 1."""
    shared = stable_generator(seed, "shared start").random()
    return float(shared), float(stable_generator(seed, "start", name).uniform(-1.0, 1.0))


def _along(mobility: LoopMobility, distance_m: float) -> PositionM:
    """The point `distance_m` (below the length) after the first waypoint."""
    for a, b in _edges(mobility):
        edge_m = math.dist(a, b)
        if distance_m < edge_m:
            share = distance_m / edge_m
            return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))
        distance_m -= edge_m
    return mobility.waypoints_m[0]
