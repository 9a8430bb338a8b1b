"""Representatives as a fluid: k users of each edge report, the others are estimated.

The world and the planner are those of `fluid_twins`; who stands for whom is chosen by the
running testbed's own function on what users reported, or at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.fluid_policies import STEP_S
from benchmarks.fluid_twins import (
    DEADLINE_RATIO,
    Agents,
    FloatArray,
    HoltPlanner,
    IntArray,
    Played,
    World,
    played,
    set_period,
)
from controller.twins.representatives import (
    Choice,
    assigned,
    choose,
    distances,
    kin,
    weights_kbps,
)

COARSE_MS = 4000
BINS = 15
FIRST_S = 24.0
"""Until then everybody reports: the history that the first choice rests on."""
EVERY_S = 10.0
LEARNED_RATIO = 0.5


@dataclass
class Standing:
    """`by` [user]: who stands for it (itself: nobody); `scale` [row]; sums since the last
    own report, to learn the scale from."""

    by: IntArray
    scale: FloatArray
    estimated: FloatArray
    samples: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def play_represented(world: World, count: int, how: str, seed: int) -> Played:
    """`how`: clusters, or random: the same number of users drawn anew each time, one of each kin
    first, the others to whoever of them is nearest; or blind: drawn without a look at slices,
    so that whom nobody can stand for reports for itself."""
    scenario, own_ms = world.scenario, world.scenario.twins.report_period_ms
    agents = Agents(world, [own_ms] * len(scenario.users))
    planner, random = HoltPlanner(), np.random.default_rng(seed)
    shape = (len(scenario.access_points), len(scenario.slices), world.windows)
    seen, plan = np.zeros(shape), np.zeros(shape)
    periods = np.zeros(len(scenario.users))
    standing: Standing | None = None
    row_of = {(int(u), int(s)): r for r, (u, s) in enumerate(zip(world.users, world.slices))}  # noqa: B905
    next_choice_s = FIRST_S
    for window in range(world.windows):
        end_step = (window + 1) * world.window_steps
        now_s = end_step * STEP_S
        at = world.serving[:, min(end_step, world.serving.shape[1] - 1)]
        sent = agents.until(now_s + DEADLINE_RATIO * own_ms / 1000)
        counted = agents.said
        if standing is not None:
            counted = _counted(world, agents, standing, sent, row_of)
        if now_s >= next_choice_s:
            standing = _standing(world, agents, at, count, how, now_s, random, row_of)
            next_choice_s += EVERY_S
            for user, by in enumerate(standing.by):
                set_period(agents, user, own_ms if by == user else COARSE_MS, now_s)
        np.add.at(seen[:, :, window], (at[world.users], world.slices), counted)
        plan[:, :, window] = planner(seen[:, :, window])
        periods += agents.periods_ms
    return played(
        world, agents, seen, plan, periods / world.windows, FIRST_S + 2 * COARSE_MS / 1000
    )


def _counted(
    world: World,
    agents: Agents,
    standing: Standing,
    sent: list[int],
    row_of: dict[tuple[int, int], int],
) -> FloatArray:
    counted = agents.said.copy()
    for row, user in enumerate(world.users):
        by = int(standing.by[user])
        other = row_of.get((by, int(world.slices[row])))
        if by == user or other is None:
            continue
        if int(user) in sent and standing.samples[row]:
            mean = standing.estimated[row] / standing.samples[row]
            if mean > 0:
                factor = 1 + LEARNED_RATIO * (agents.said[row] / mean - 1)
                standing.scale[row] = min(100.0, standing.scale[row] * factor)
            standing.estimated[row], standing.samples[row] = 0.0, 0
        counted[row] = standing.scale[row] * agents.said[other]
        standing.estimated[row] += counted[row]
        standing.samples[row] += 1
    return counted


def _standing(
    world: World,
    agents: Agents,
    at: IntArray,
    count: int,
    how: str,
    now_s: float,
    random: np.random.Generator,
    row_of: dict[tuple[int, int], int],
) -> Standing:
    edges = [ap.edge for ap in world.scenario.access_points]
    edge_of = [edges[cell] for cell in at]
    by = np.arange(len(world.scenario.users))
    binned = _binned(agents, now_s)
    for edge in sorted(set(edge_of)):
        here = np.array([u for u in by if edge_of[u] == edge])
        demand = {
            s: np.array(
                [
                    binned[row_of[int(u), s]] if (int(u), s) in row_of else np.full(BINS, np.nan)
                    for u in here
                ]
            )
            for s in sorted(
                {int(world.slices[r]) for r in np.flatnonzero(np.isin(world.users, here))}
            )
        }
        choice = _choice(demand, count, how, random)
        for index, user in enumerate(here):
            other = int(here[choice.representative[index]])
            if _slices(world, int(user)) == _slices(world, other):
                by[user] = other
    scale = np.ones(world.users.size)
    for row, user in enumerate(world.users):
        its = row_of.get((int(by[user]), int(world.slices[row])))
        if its is not None and binned[its].mean() > 0:
            scale[row] = min(100.0, float(binned[row].mean() / binned[its].mean()))
    return Standing(by, scale, np.zeros(scale.size), np.zeros(scale.size, dtype=np.int64))


def _choice(
    demand: dict[int, FloatArray], count: int, how: str, random: np.random.Generator
) -> Choice:
    apart, weight = distances(demand), weights_kbps(demand)
    if how == "clusters":
        return choose(apart, weight, count)
    order = [int(u) for u in random.permutation(weight.size)]
    if how == "random":
        kin_of = kin(apart)
        first = list({kin_of[u]: u for u in order}.values())
        order = [*first, *(u for u in order if u not in first)]
        count = max(count, len(first))
    return assigned(apart, weight, np.sort(np.array(order[:count])))


def _slices(world: World, user: int) -> set[int]:
    return {int(s) for s in world.slices[world.users == user]}


def _binned(agents: Agents, now_s: float) -> FloatArray:
    """[row, bin] of what users reported, bins of `COARSE_MS`; a bin without any as before."""
    world = agents.world
    found = np.zeros((world.users.size, BINS))
    start_s = now_s - BINS * COARSE_MS / 1000
    for user, track in enumerate(agents.heard):
        rows = np.flatnonzero(world.users == user)
        sums, counts = np.zeros((rows.size, BINS)), np.zeros(BINS)
        for at_s, kbps in track:
            index = int((at_s - start_s) * 1000 // COARSE_MS)
            if 0 <= index < BINS:
                sums[:, index] += kbps
                counts[index] += 1
        last = next((sums[:, b] / counts[b] for b in range(BINS) if counts[b]), np.zeros(rows.size))
        for index in range(BINS):
            if counts[index]:
                last = sums[:, index] / counts[index]
            found[rows, index] = last
    return found
