"""Twins that cost, as a fluid: users report at their periods, a planner rests on what they said.

Without packets, so that many seeds are cheap.  Each user's report says what it asked for
over its last period and arrives at its stagger; at a window's deadline the newest report of
each user counts, in the cell that serves the user then.  Settings come from the very
functions that the running testbed uses (`controller/twins`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.fluid_policies import STEP_S, Outcome, fitted, judge, reservable_kbps
from controller.contracts.twin_budget import SpendingPolicy, TwinBudget, UserSpent
from controller.contracts.twin_models import Subject, agent_settings, load_models, resolve
from controller.twins.spending import (
    Measured,
    Pair,
    Payer,
    SpendingState,
    confidence_ratio,
    spent,
    weight_of,
)
from topologies.agent_orders import fitted as fitted_report
from topologies.fluid import downlink_flows_kbps, serving_index, step_times_s, with_seed
from topologies.scenario.schema import Scenario
from topologies.user_reports import Header, Radio, report_document, stagger_ns

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

HEADERS_BYTES = 42
"""Ethernet, IPv4, UDP."""
DEADLINE_RATIO = 0.5
"""Of a window after its end: then an aggregate leaves with what is known."""
SPENDING_EVERY = 8
"""Windows between two looks at the budget (4 s)."""
GROWTH_LAG_S = 8.0
GROWTH_KEPT_S = 60.0


@dataclass(frozen=True)
class World:
    """`asked_kbps` [row, step]: a user's downlink in a slice; `users`, `slices` [row];
    `serving` [user, step]: cells in the scenario's order; `report_bytes` [user]."""

    scenario: Scenario
    asked_kbps: FloatArray
    users: IntArray
    slices: IntArray
    serving: IntArray
    report_bytes: FloatArray

    @property
    def window_steps(self) -> int:
        return round(self.scenario.twins.report_period_ms / 1000 / STEP_S)

    @property
    def windows(self) -> int:
        return int(self.asked_kbps.shape[1]) // self.window_steps

    def demand_kbps(self) -> FloatArray:
        """[cell, slice, step], the truth."""
        shape = (len(self.scenario.access_points), len(self.scenario.slices))
        found = np.zeros((*shape, self.asked_kbps.shape[1]))
        steps = np.arange(self.asked_kbps.shape[1])
        for row, kbps in enumerate(self.asked_kbps):
            found[self.serving[self.users[row]], self.slices[row], steps] += kbps
        return found


def world_of(scenario: Scenario, seed: int, duration_s: float) -> World:
    scenario = with_seed(scenario, seed)
    t_s = step_times_s(duration_s, STEP_S)
    names = [u.name for u in scenario.users]
    slice_names = [s.name for s in scenario.slices]
    summed: dict[tuple[int, int], FloatArray] = {}
    for user, slice_name, kbps in downlink_flows_kbps(scenario, t_s):
        key = (names.index(user), slice_names.index(slice_name))
        summed[key] = summed.get(key, np.zeros(t_s.shape)) + kbps
    keys = sorted(summed)
    return World(
        scenario=scenario,
        asked_kbps=np.array([summed[k] for k in keys]),
        users=np.array([k[0] for k in keys]),
        slices=np.array([k[1] for k in keys]),
        serving=np.array([serving_index(scenario, n, t_s) for n in names]),
        report_bytes=np.array([report_bytes(scenario, n) for n in names], dtype=np.float64),
    )


def report_bytes(scenario: Scenario, name: str) -> int:
    """Wire bytes of a report of this user, as its agent would write it."""
    user = next(u for u in scenario.users if u.name == name)
    slice_of = {s.name: s.slice for s in scenario.services}
    id_of = {s.name: s.slice_id for s in scenario.slices}
    specs = [(t.service, t.direction == "up") for t in scenario.traffic if name in t.users]
    specs += [(p.service, up) for p in scenario.probes if name in p.users for up in (False, True)]
    flows = [
        {
            "service": service,
            "slice_id": id_of[slice_of[service]],
            "up": up,
            "demand_kbps": 1234.567,
            "goodput_kbps": 1198.765,
            "loss_ratio": 0.0,
            "owd_p95_ms": 11.234,
        }
        for service, up in specs
    ]
    rsrp = {ap.name: -84.56 for ap in scenario.access_points}
    radio = Radio(scenario.access_points[0].name, rsrp, (-123.456, 78.901), 6.4)
    period_ms = scenario.twins.report_period_ms
    header = Header(name, user.type, 1234, 1_700_000_000_000_000_000, period_ms)
    subject = Subject(ue_id=name, type=user.type, s_nssais=(), edge="")
    settings = resolve(load_models()[user.type], subject, [], period_ms, 600)
    document = fitted_report(
        report_document(header, radio, flows), agent_settings(settings), in_full=False
    )
    return len(orjson.dumps(document)) + HEADERS_BYTES


Planner = Callable[[FloatArray], FloatArray]
"""Seen so far [cell, slice] at each window -> what to reserve, called in the order of time."""


class HoltPlanner:
    """Exponential smoothing with a trend, plus a margin: `slice-planner`'s model-driven twin."""

    def __init__(self, level_ratio: float = 0.7, trend_ratio: float = 0.5) -> None:
        self._ratios = (level_ratio, trend_ratio)
        self._level: FloatArray | None = None
        self._trend = np.zeros(())

    def __call__(self, seen_kbps: FloatArray) -> FloatArray:
        level_ratio, trend_ratio = self._ratios
        if self._level is None:
            self._level, self._trend = seen_kbps.copy(), np.zeros(seen_kbps.shape)
        before = self._level
        self._level = level_ratio * seen_kbps + (1 - level_ratio) * (before + self._trend)
        self._trend = trend_ratio * (self._level - before) + (1 - trend_ratio) * self._trend
        ahead = np.maximum(self._level, self._level + 4 * self._trend)
        return np.asarray(ahead * 1.15 + 150)


@dataclass
class Agents:
    """Who reports when; `said` [row]: the newest that arrived."""

    world: World
    periods_ms: list[int]
    due_s: list[float] = field(default_factory=list)
    since_s: list[float] = field(default_factory=list)
    said: FloatArray = field(default_factory=lambda: np.zeros(0))
    bytes_sent: float = 0.0
    heard: list[list[tuple[float, FloatArray]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.due_s = [p / 1000 for p in self.periods_ms]
        self.since_s = [0.0] * len(self.periods_ms)
        self.said = self.world.asked_kbps[:, 0].copy()
        self.heard = [[] for _ in self.periods_ms]

    def until(self, t_s: float) -> list[int]:
        """Reports that have arrived by then; users that sent any."""
        sent = []
        for user, period_ms in enumerate(self.periods_ms):
            stagger_s = stagger_ns(user, period_ms) / 1e9
            while self.due_s[user] + stagger_s <= t_s:
                self._report(user)
                sent.append(user)
        return sent

    def _report(self, user: int) -> None:
        first, last = (round(t / STEP_S) for t in (self.since_s[user], self.due_s[user]))
        rows = np.flatnonzero(self.world.users == user)
        covered = self.world.asked_kbps[rows, first : max(last, first + 1)]
        if covered.size:
            self.said[rows] = covered.mean(axis=1)
        self.bytes_sent += float(self.world.report_bytes[user])
        self.heard[user].append((self.due_s[user], self.said[rows].copy()))
        self.since_s[user] = self.due_s[user]
        period_s = self.periods_ms[user] / 1000
        self.due_s[user] = (int(self.due_s[user] / period_s + 1e-6) + 1) * period_s

    def observed_s(self, user: int) -> float:
        """As long as growth is measured over, or since the first report."""
        heard = self.heard[user]
        return min(GROWTH_KEPT_S, heard[-1][0] - heard[0][0]) if heard else 0.0

    def growth(self, user: int) -> FloatArray:
        """[row of the user]: mean change of reports `GROWTH_LAG_S` or more apart, per second."""
        track = [h for h in self.heard[user] if self.due_s[user] - h[0] <= GROWTH_KEPT_S]
        total, pairs, later = np.zeros(int((self.world.users == user).sum())), 0, 0
        for at_s, kbps in track:
            while later < len(track) and track[later][0] - at_s < GROWTH_LAG_S:
                later += 1
            if later == len(track):
                break
            total += np.abs(track[later][1] - kbps) / (track[later][0] - at_s)
            pairs += 1
        return total / max(1, pairs)


@dataclass(frozen=True)
class Played:
    """What a planner achieved on such twins."""

    outcome: Outcome
    bytes_per_s: float
    twin_error_ratio: float
    """Mean absolute error of what the centre saw, of what was asked."""
    mean_period_ms: Mapping[str, float]


def play(
    world: World, bytes_per_s: float | None = None, spending: SpendingPolicy | None = None
) -> Played:
    """One run; without a budget everybody reports at the scenario's period."""
    scenario, own_ms = world.scenario, world.scenario.twins.report_period_ms
    agents = Agents(world, [own_ms] * len(scenario.users))
    budget = None
    if bytes_per_s is not None and spending is not None:
        budget = TwinBudget(bytes_per_s=bytes_per_s, spending=spending)
    state, planner = SpendingState(), HoltPlanner()
    shape = (len(scenario.access_points), len(scenario.slices), world.windows)
    seen, plan = np.zeros(shape), np.zeros(shape)
    periods = np.zeros(len(scenario.users))
    for window in range(world.windows):
        end_step = (window + 1) * world.window_steps
        agents.until(end_step * STEP_S + DEADLINE_RATIO * own_ms / 1000)
        at = world.serving[:, min(end_step, world.serving.shape[1] - 1)]
        np.add.at(seen[:, :, window], (at[world.users], world.slices), agents.said)
        plan[:, :, window] = planner(seen[:, :, window])
        periods += agents.periods_ms
        if budget is not None and window % SPENDING_EVERY == SPENDING_EVERY - 1:
            payers = payers_of(world, agents, at, seen[:, :, window], plan[:, :, window])
            state, settings = spent(budget, state, payers, Measured(None, 0.0, None))
            for user, spec in enumerate(scenario.users):
                set_period(agents, user, settings[spec.name].period_ms, end_step * STEP_S)
    return played(world, agents, seen, plan, periods / world.windows)


def set_period(agents: Agents, user: int, period_ms: int, now_s: float) -> None:
    if agents.periods_ms[user] != period_ms:
        agents.periods_ms[user] = period_ms
        period_s = period_ms / 1000
        agents.due_s[user] = (int(now_s / period_s + 1e-6) + 1) * period_s


def payers_of(
    world: World, agents: Agents, at: IntArray, seen: FloatArray, plan: FloatArray
) -> list[Payer]:
    names = [ap.name for ap in world.scenario.access_points]
    pairs = {
        (name, s): Pair(float(seen[cell, s]), float(plan[cell, s]), 0.0)
        for cell, name in enumerate(names)
        for s in range(seen.shape[1])
    }
    found = []
    for user, spec in enumerate(world.scenario.users):
        rows = np.flatnonzero(world.users == user)
        ids = [int(world.slices[r]) for r in rows]
        cost = UserSpent(
            ue_id=spec.name,
            cell_id=names[at[user]],
            datagrams=0,
            wire_bytes=0,
            demand_kbps=dict(zip(ids, map(float, agents.said[rows]), strict=True)),
            growth_kbps_per_s=dict(zip(ids, map(float, agents.growth(user)), strict=True)),
            observed_s=agents.observed_s(user),
            loss_ratio={},
            handover_margin_db=None,
            is_moving=False,
        )
        own_ms = world.scenario.twins.report_period_ms
        found.append(
            Payer(
                ue_id=spec.name,
                report_bytes=float(world.report_bytes[user]),
                own_ms=own_ms,
                period_ms=agents.periods_ms[user],
                weight=weight_of(cost, pairs),
                confidence_ratio=confidence_ratio(cost.observed_s),
            )
        )
    return found


def played(
    world: World,
    agents: Agents,
    seen: FloatArray,
    plan: FloatArray,
    periods: FloatArray,
    judged_from_s: float = 0.0,
) -> Played:
    """`seen`, `plan` [cell, slice, window]; judged from a time on, bytes over all of it."""
    scenario, steps = world.scenario, world.window_steps
    rows = [[ap.name for ap in scenario.access_points].index(b) for b in scenario.bottlenecks]
    truth = world.demand_kbps()[rows, :, : world.windows * steps]
    late = np.repeat(fitted(plan[rows], reservable_kbps(scenario)), steps, axis=2)
    delay = steps + round(DEADLINE_RATIO * steps)
    reserved = np.concatenate([late[:, :, :1].repeat(delay, axis=2), late], axis=2)
    reserved = reserved[:, :, : truth.shape[2]]
    means = truth.reshape(*truth.shape[:2], world.windows, steps).mean(axis=3)
    first = round(judged_from_s / (steps * STEP_S))
    seen, means = seen[:, :, first:], means[:, :, first:]
    judged = slice(first * steps, None)
    return Played(
        outcome=judge(scenario, truth[:, :, judged], reserved[:, :, judged]),
        bytes_per_s=agents.bytes_sent / (world.windows * steps * STEP_S),
        twin_error_ratio=float(np.abs(seen[rows] - means).sum() / means.sum()),
        mean_period_ms={u.name: float(p) for u, p in zip(scenario.users, periods, strict=True)},
    )


def frontier(
    scenario: Scenario, seeds: Sequence[int], ratios: Sequence[float], duration_s: float
) -> dict[str, list[dict[str, float]]]:
    """policy -> a row per seed and ratio of the unlimited run's bytes."""
    table: dict[str, list[dict[str, float]]] = {"unlimited": [], "uniform": [], "automatic": []}
    for seed in seeds:
        world = world_of(scenario, seed, duration_s)
        full = play(world)
        table["unlimited"].append(_row(seed, 1.0, full))
        for ratio in ratios:
            for spending in (SpendingPolicy.UNIFORM, SpendingPolicy.AUTOMATIC):
                played = play(world, ratio * full.bytes_per_s, spending)
                table[spending.value].append(_row(seed, ratio, played))
    return table


def _row(seed: int, ratio: float, played: Played) -> dict[str, float]:
    return {
        "seed": seed,
        "ratio": ratio,
        "bytes_per_s": played.bytes_per_s,
        "satisfied_ratio": played.outcome.mean_ratio,
        "all_slices_ratio": played.outcome.all_slices_ratio,
        "reserved_mbps": played.outcome.reserved_mbps,
        "twin_error_ratio": played.twin_error_ratio,
    }
