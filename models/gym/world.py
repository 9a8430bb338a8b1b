"""What an episode happens in: a site and its traffic by the step, from a scenario or a recording.

In training demand may be known (it is simulated by name); what the agent sees of it goes
through the same `cell` documents as live.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from controller.contracts.inventory import Reservation
from controller.contracts.slices import Slice, TrafficClass
from controller.whatif.calibration import Calibration
from controller.whatif.emulator import STEP_MS
from controller.whatif.paths import Paths, paths_of
from controller.whatif.recording import cell_events
from controller.whatif.reservations import Columns
from topologies.describe import as_planned
from topologies.fluid import cell_slice_demand, serving_index, with_seed
from topologies.results.tables import read_table
from topologies.scenario.loader import load
from topologies.scenario.schema import ReservationSpec, Scenario

FloatArray = npt.NDArray[np.float64]
FILLER_BYTES = 1442


@dataclass(frozen=True)
class World:
    """`offered_kbps` [step of `STEP_MS`, cell, slice]; `users` [period, cell, slice];
    `filler_kbps` [cell]; `plan`: what is reserved at the start."""

    columns: Columns
    slices: tuple[Slice, ...]
    offered_kbps: FloatArray
    users: FloatArray
    filler_kbps: FloatArray
    paths: Paths
    period_ms: int
    plan: dict[str, tuple[Reservation, ...]]

    @property
    def periods(self) -> int:
        return int(self.offered_kbps.shape[0] * STEP_MS // self.period_ms)


def from_scenario(scenario: Scenario, seed: int, duration_s: float) -> World:
    """The scenario's own demand and movement under `seed`."""
    period_s = scenario.twins.report_period_ms / 1000
    offered = cell_slice_demand(scenario, seed, duration_s, STEP_MS / 1000).transpose(2, 0, 1)
    return World(
        columns=_columns(scenario),
        slices=tuple(scenario.slices),
        offered_kbps=offered,
        users=_users(with_seed(scenario, seed), duration_s, period_s),
        filler_kbps=_filler_kbps(scenario),
        paths=paths_of(as_planned(scenario)),
        period_ms=scenario.twins.report_period_ms,
        plan=_plan(scenario, scenario.initial_reservations),
    )


def _users(scenario: Scenario, duration_s: float, period_s: float) -> FloatArray:
    """[period, cell, slice]: who has a session where at each period's end."""
    periods = round(duration_s / period_s)
    ends_s = np.asarray((np.arange(periods) + 1) * period_s, dtype=np.float64)
    column = {s.name: i for i, s in enumerate(scenario.slices)}
    users = np.zeros((periods, len(scenario.access_points), len(column)))
    for user in scenario.users:
        serving = serving_index(scenario, user.name, ends_s)
        for name in user.slices:
            users[np.arange(periods), serving, column[name]] += 1
    return users


def from_run(folder: Path, scenario: Scenario) -> World:
    """What the twins of a recorded run showed, window by window; missing ones repeat.

    Raises ValueError when it is a run of another scenario.
    """
    table = read_table(folder, "twins")
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    base = from_scenario(scenario, 0, 1.0)
    cells = list(base.columns.cells)
    recorded = {row["cell_id"] for row in rows}
    if recorded != set(cells):
        raise ValueError(
            f"{folder} has cells {', '.join(sorted(recorded))}, "
            f"scenario {scenario.name} has cells {', '.join(cells)}"
        )
    link_kbps = dict(zip(cells, base.columns.link_kbps, strict=True))
    ratio = scenario.reservable_ratio
    events = list(cell_events(rows, link_kbps, ratio))
    windows = [e["window"] for e in events]
    first, count = min(windows), max(windows) - min(windows) + 1
    shape = (count, len(cells), len(base.slices))
    demand, users = np.full(shape, np.nan), np.zeros(shape)
    column = {s.slice_id: i for i, s in enumerate(base.slices)}
    for event in events:
        where = event["window"] - first, cells.index(event["id"])
        for item in event["slices"]:
            demand[(*where, column[item["slice_id"]])] = item["demand_kbps"]
            users[(*where, column[item["slice_id"]])] = item["users"]
    for index in range(count):
        before = demand[index - 1] if index else np.zeros(shape[1:])
        demand[index] = np.where(np.isnan(demand[index]), before, demand[index])
    per_period = round(base.period_ms / STEP_MS)
    return World(
        **{
            **base.__dict__,
            "offered_kbps": demand.repeat(per_period, axis=0),
            "users": users,
        }
    )


def scenario_of(name: str | Path) -> Scenario:
    """Raises the scenario's own errors."""
    return load(str(name), [])


def _columns(scenario: Scenario) -> Columns:
    bytes_ = Calibration.load().packet_bytes
    pairs = [(s.slice_id, s.default_class) for s in scenario.slices]
    return Columns(
        [a.name for a in scenario.access_points],
        [1000.0 * a.down_mbps for a in scenario.access_points],
        pairs,
        [8 * bytes_] * len(pairs) + [8.0 * FILLER_BYTES],
        scenario.reservable_ratio,
    )


def _filler_kbps(scenario: Scenario) -> FloatArray:
    ratio = scenario.background.rate_ratio if scenario.background else 0.0
    return np.array(
        [
            1000 * ratio * a.down_mbps * (a.name in scenario.bottlenecks)
            for a in scenario.access_points
        ]
    )


def _plan(scenario: Scenario, specs: list[ReservationSpec]) -> dict[str, tuple[Reservation, ...]]:
    found: dict[str, Any] = {a.name: [] for a in scenario.access_points}
    for spec in specs:
        slice_ = next(s for s in scenario.slices if s.name == spec.slice)
        factor = 1.0 if slice_.default_class is TrafficClass.REAL_TIME else 2.0
        max_mbps = factor * spec.min_mbps if spec.max_mbps is None else spec.max_mbps
        found[spec.access_point].append(
            Reservation(
                slice_id=slice_.slice_id,
                traffic_class=slice_.default_class,
                min_kbps=round(1000 * spec.min_mbps),
                max_kbps=round(1000 * max_mbps),
            )
        )
    return {cell_id: tuple(held) for cell_id, held in found.items()}
