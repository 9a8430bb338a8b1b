"""`HolonSlicing-v0`: reserve capacity of every cell for every slice, once a report period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from controller.contracts.decisions import DecisionRecord, DecisionRequest
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.whatif.calibration import Calibration
from controller.whatif.deciding import decided, view_of
from controller.whatif.emulator import STEP_MS, Course
from controller.whatif.links import Links, Step
from controller.whatif.reservations import rates_of
from controller.whatif.scoring import Delays, SliceOutcome, outcomes, score
from models.gym.world import World, from_run, from_scenario, scenario_of

Observation = npt.NDArray[np.float32]
HISTORY = 4
FEATURES = 6
DELAY_SCALE_MS = 100.0
USERS_SCALE = 10.0
LEAST_KBPS = 100.0
CEILING_RATIO = 1.3
CEILING_ROOM_KBPS = 600
TRAINING_SEEDS = 1_000_000


class SlicingEnv(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """The network of a scenario (or of a recorded run) in the what-if emulator.

    Observation, `Box(0, 10, (cells * slices * 6,))`: for every cell, for every slice, in the
    scenario's order, what the newest `cell` document of the stream says of them; index within
    the six of (cell, slice):

    | index | meaning (attribute of the document)            | unit   | divided by    | range  |
    |-------|------------------------------------------------|--------|---------------|--------|
    | 0     | demand_kbps, L2, loss included                 | kbit/s | capacity_kbps | 0 - 10 |
    | 1     | demand_kbps, by how much it rose, else 0       | kbit/s | capacity_kbps | 0 - 10 |
    | 2     | users with a session in the cell               | users  | 10            | 0 - 10 |
    | 3     | loss_ratio                                     | ratio  | 1             | 0 - 1  |
    | 4     | owd_p95_ms, one way; 0: no packet              | ms     | 100           | 0 - 10 |
    | 5     | reservation.min_kbps                           | kbit/s | capacity_kbps | 0 - 1  |

    Action, `Box(0, 1, (cells * slices,))`:

    | index                 | meaning                                  | share of        | range |
    |-----------------------|------------------------------------------|-----------------|-------|
    | cell * slices + slice | guaranteed rate of the slice in the cell | reservable_kbps | 0 - 1 |

    More than all of a cell is scaled down, as the guard would refuse it.  `info["decisions"]`
    has the action as bodies of `POST /api/v1/decisions`, `info["cells"]` the observation as
    `cell` documents: what an xApp sends and reads live.

    An xApp's own documents take the place of an action: `decide(body)` guards a decision and
    carries it out as live, `run_on()` then steps with what is reserved (`models/gym/xapp.py`
    plays a whole xApp so).

    Reward: SLA satisfaction of the period, mean over slices, less a small price of what is
    reserved (`controller.whatif.scoring.score`); at most 1.  An episode is `episode_s` long
    and is truncated, never terminated.  `reset(seed=...)` chooses the demand.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  the base class declares it so

    def __init__(
        self,
        scenario: str | Path = "crossroads",
        episode_s: float = 30.0,
        run: str | Path | None = None,
    ) -> None:
        """`run`: a results folder whose recorded twins are replayed instead of new demand."""
        self._scenario = scenario_of(scenario)
        self._episode_s = episode_s
        self._recorded = from_run(Path(run), self._scenario) if run is not None else None
        self._calibration = Calibration.load()
        self._world: World = self._recorded or from_scenario(self._scenario, 0, episode_s)
        self._cells = len(self._world.columns.cells)
        self._slices = len(self._world.slices)
        size = self._cells * self._slices
        self.observation_space = spaces.Box(0.0, 10.0, (size * FEATURES,), np.float32)
        self.action_space = spaces.Box(0.0, 1.0, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if self._recorded is None:
            demand_seed = int(self.np_random.integers(TRAINING_SEEDS))
            self._world = from_scenario(self._scenario, demand_seed, self._episode_s)
        self._period = 0
        self._plan = dict(self._world.plan)
        self._links = Links(
            self._world.columns.classes(), rates_of(self._world.columns, self._plan)
        )
        self._before_kbps = np.zeros((self._cells, self._slices))
        self._run_period()
        return self._observation(), self._info([])

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        return self.run_on(self._decide(np.asarray(action, dtype=np.float64)))

    def decide(self, document: Mapping[str, Any]) -> DecisionRecord:
        """A body of `POST /api/v1/decisions`, guarded; in force from the next period on.

        Raises ValueError for what is no reservation in a cell of this network.
        """
        request, columns = DecisionRequest.model_validate(document), self._world.columns
        cell_id = str(request.target.get("cell_id"))
        if cell_id not in columns.cells:
            raise ValueError(f"unknown cell {cell_id!r}; cells: {', '.join(columns.cells)}")
        link_kbps = columns.link_kbps[list(columns.cells).index(cell_id)]
        cell = view_of(cell_id, link_kbps, columns.reservable_ratio, self._plan[cell_id])
        record, self._plan[cell_id] = decided(request, cell, self._world.slices)
        return record

    def run_on(
        self, decisions: Sequence[dict[str, Any]] = ()
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """`step` with what is reserved now."""
        self._links.change(rates_of(self._world.columns, self._plan))
        of_slices = self._run_period()
        satisfied = float(np.mean([o.satisfied_ratio for o in of_slices]))
        reserved = sum(r.min_kbps for held in self._plan.values() for r in held)
        reward = score(satisfied, reserved / float(self._reservable_kbps.sum()))
        truncated = self._period >= self._world.periods
        return self._observation(), reward, False, truncated, self._info(list(decisions))

    @property
    def _reservable_kbps(self) -> npt.NDArray[np.float64]:
        columns = self._world.columns
        return np.asarray(columns.link_kbps) * columns.reservable_ratio

    def _decide(self, action: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
        share = np.clip(action, 0.0, 1.0).reshape(self._cells, self._slices)
        share = share / np.maximum(1.0, share.sum(axis=1, keepdims=True))
        wanted = np.floor(np.maximum(share * self._reservable_kbps[:, None], 0.0))
        decisions = []
        for row, cell_id in enumerate(self._world.columns.cells):
            held = tuple(self._reservation(row, i, wanted[row, i]) for i in range(self._slices))
            self._plan[cell_id] = held
            decisions.append(self._decision(cell_id, held))
        return decisions

    def _reservation(self, row: int, column: int, min_kbps: float) -> Reservation:
        slice_id, traffic_class = self._world.columns.pairs[column]
        most = max(min_kbps * CEILING_RATIO, min_kbps + CEILING_ROOM_KBPS)
        if traffic_class is TrafficClass.REAL_TIME:
            most = max(min_kbps, 12)
        return Reservation(
            slice_id=slice_id,
            traffic_class=traffic_class,
            min_kbps=int(min_kbps),
            max_kbps=int(min(most, self._world.columns.link_kbps[row])),
        )

    def _decision(self, cell_id: str, held: tuple[Reservation, ...]) -> dict[str, Any]:
        by_id = {s.slice_id: s for s in self._world.slices}
        return {
            "trace_id": f"gym-{self._period}-{cell_id}",
            "xapp": "gym",
            "action": "reserve",
            "target": {"cell_id": cell_id},
            "parameters": {
                "reservations": [
                    {
                        "s_nssai": by_id[r.slice_id].s_nssai.model_dump(),
                        "traffic_class": r.traffic_class.value,
                        "min_kbps": float(r.min_kbps),
                        "max_kbps": float(r.max_kbps),
                    }
                    for r in held
                ]
            },
        }

    def _run_period(self) -> list[SliceOutcome]:
        world = self._world
        per_period = round(world.period_ms / STEP_MS)
        first = min(self._period, world.periods - 1) * per_period
        offered = world.offered_kbps[first : first + per_period]
        filler = np.broadcast_to(world.filler_kbps[None, :, None], (*offered.shape[:2], 1))
        all_offered = np.concatenate([offered, filler], axis=2)
        steps: list[Step] = [self._links.step(kbps, STEP_MS) for kbps in all_offered]
        course = Course(
            all_offered,
            np.stack([s.delivered_bits for s in steps]) / STEP_MS,
            np.stack([s.lost_bits for s in steps]) / STEP_MS,
            np.stack([s.wait_ms for s in steps]),
            STEP_MS,
        )
        self._remember(course)
        self._period += 1
        return self._outcomes(course, slice(0, self._cells))

    def _outcomes(self, course: Course, rows: slice) -> list[SliceOutcome]:
        on = Delays.on(self._world.paths, self._calibration)
        delays = Delays(on.wires_ms[rows], on.switching_ms[rows], self._calibration)
        return outcomes(course, rows, self._world.slices, range(self._slices), delays)

    def _remember(self, course: Course) -> None:
        self._previous_kbps = self._before_kbps
        self._before_kbps = course.offered_kbps[:, :, :-1].mean(axis=0)
        self._by_cell = [self._outcomes(course, slice(c, c + 1)) for c in range(self._cells)]

    def _observation(self) -> Observation:
        world = self._world
        found = np.zeros((self._cells, self._slices, FEATURES))
        link = np.asarray(world.columns.link_kbps)[:, None]
        users = world.users[min(self._period - 1, len(world.users) - 1)]
        found[..., 0] = self._before_kbps / link
        found[..., 1] = np.maximum(self._before_kbps - self._previous_kbps, 0.0) / link
        found[..., 2] = users / USERS_SCALE
        found[..., 3] = [[o.loss_ratio for o in of_cell] for of_cell in self._by_cell]
        found[..., 4] = [[o.owd_p95_ms for o in of_cell] for of_cell in self._by_cell]
        found[..., 4] /= DELAY_SCALE_MS
        for row, cell_id in enumerate(world.columns.cells):
            held = {r.slice_id: r.min_kbps for r in self._plan[cell_id]}
            found[row, :, 5] = [held.get(s.slice_id, 0) / link[row, 0] for s in world.slices]
        return np.clip(found.ravel(), 0.0, 10.0).astype(np.float32)

    def _info(self, decisions: list[dict[str, Any]]) -> dict[str, Any]:
        return {"period": self._period, "decisions": decisions, "cells": self._documents()}

    def _documents(self) -> list[dict[str, Any]]:
        """The newest `cell` documents, as the stream has them."""
        world, now_ns = self._world, self._period * self._world.period_ms * 1_000_000
        users = world.users[min(self._period - 1, len(world.users) - 1)]
        documents = []
        for row, cell_id in enumerate(world.columns.cells):
            held = {r.slice_id: r for r in self._plan[cell_id]}
            link_kbps = world.columns.link_kbps[row]
            documents.append(
                {
                    "kind": "cell",
                    "id": cell_id,
                    "trace_id": f"gym-{self._period}-{cell_id}",
                    "window": self._period - 1,
                    "period_ms": world.period_ms,
                    "completed_at_ns": now_ns,
                    "sent_at_ns": now_ns,
                    "received_at_ns": now_ns,
                    "users_reported": int(users[row].sum()),
                    "users_expected": int(users[row].sum()),
                    "capacity_kbps": round(link_kbps),
                    "reservable_kbps": round(float(self._reservable_kbps[row])),
                    "slices": [
                        {
                            "slice_id": s.slice_id,
                            "users": int(users[row, i]),
                            "demand_kbps": float(self._before_kbps[row, i]),
                            "goodput_kbps": self._by_cell[row][i].delivered_kbps,
                            "loss_ratio": self._by_cell[row][i].loss_ratio,
                            "owd_p95_ms": self._by_cell[row][i].owd_p95_ms or None,
                            "s_nssai": s.s_nssai.model_dump(),
                            "traffic_class": s.default_class.value,
                            "reservation": {
                                "min_kbps": held[s.slice_id].min_kbps if s.slice_id in held else 0,
                                "max_kbps": held[s.slice_id].max_kbps
                                if s.slice_id in held
                                else round(link_kbps),
                            },
                        }
                        for i, s in enumerate(world.slices)
                    ],
                }
            )
        return documents
