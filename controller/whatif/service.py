"""Forks of a running RIC: kept in step, predicted, applied through the guard, then scored.

A fork is an instance of the network with a strategy of its own.  It starts from the newest
twins each time it predicts, so it stays in step with the live network until it is applied;
after that its prediction stands, to be compared with what twins then show.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.contracts.decisions import Action, DecisionRecord, DecisionRequest
from controller.contracts.inventory import Inventory, Reservation
from controller.network_state import shaped
from controller.whatif.calibration import Calibration
from controller.whatif.comparing import compared, measured
from controller.whatif.forecast import persistence
from controller.whatif.predicting import Prediction
from controller.whatif.snapshot import Mirror, Site, Snapshot
from controller.whatif.strategies import (
    Handover,
    Meaning,
    Strategy,
    meaning,
)
from controller.whatif.worker import Worker

FORKS_MAX = 64
LATE_WINDOWS = 4
"""Of the last aggregates after a horizon: they come with a delay of their own."""
XAPP_NAME = "what-if"


class Live(Protocol):
    """What a fork needs of the network it is forked from."""

    def reservations(self, cell_id: str) -> Sequence[Reservation]: ...
    def attachments(self) -> Mapping[str, str]: ...


Decide = Callable[[DecisionRequest], Awaitable[DecisionRecord]]
UserDemand = Callable[[str], Awaitable[Mapping[int, float]]]
"""ue_id -> slice_id -> downlink demand in kbit/s, from its user twin."""


@dataclass
class Fork:
    """`state`: following (in step with the live network), applied, scored."""

    fork_id: str
    name: str
    strategy: Strategy
    created_at_ns: int
    state: str = "following"
    prediction: Prediction | None = None
    predicted_at_ns: int | None = None
    snapshot: Snapshot | None = None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    comparison: dict[str, Any] | None = None

    def document(self, mirror_window: int | None) -> dict[str, Any]:
        prediction = None
        if self.prediction is not None and self.snapshot is not None:
            prediction = self.prediction.document(self.snapshot)
        behind = None
        if prediction is not None and mirror_window is not None:
            behind = mirror_window - prediction["window"]
        return {
            "fork_id": self.fork_id,
            "name": self.name,
            "state": self.state,
            "strategy": self.strategy.model_dump(mode="json", exclude_none=True),
            "created_at_ns": self.created_at_ns,
            "predicted_at_ns": self.predicted_at_ns,
            "windows_behind": behind,
            "prediction": prediction,
            "decisions": self.decisions,
            "comparison": self.comparison,
        }


class UnknownFork(LookupError):
    """No fork of that id."""


class TooManyForks(Exception):
    """`FORKS_MAX` are there already."""


class WrongState(Exception):
    """The fork was applied already, or cannot be."""


class WhatIf:
    """All forks of a run.  `decide` is the way every decision goes, guard included."""

    def __init__(
        self,
        inventory: Inventory,
        live: Live,
        decide: Decide,
        user_demand: UserDemand,
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        calibration = Calibration.load()
        self.mirror = Mirror(Site.of(inventory, calibration.packet_bytes), calibration)
        self._inventory = inventory
        self._live = live
        self._decide = decide
        self._user_demand = user_demand
        self._note = note
        self._forks: dict[str, Fork] = {}
        self._scored: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._predictions = 0
        self._prediction_ms: list[float] = []
        self.worker = Worker()

    # -- the life of a fork ---------------------------------------------------------

    def fork(self, name: str, strategy: Strategy) -> Fork:
        """Raises `StrategyError`, `TooManyForks`, and ValueError before twins are there."""
        if len(self._forks) >= FORKS_MAX:
            raise TooManyForks(f"{FORKS_MAX} forks are there already")
        self.meaning_of(strategy, self.snapshot())
        made = Fork(f"f-{uuid.uuid4().hex[:8]}", name or strategy.kind, strategy, time.time_ns())
        self._forks[made.fork_id] = made
        return made

    def get(self, fork_id: str) -> Fork:
        try:
            return self._forks[fork_id]
        except KeyError:
            raise UnknownFork(f"unknown fork {fork_id!r}") from None

    def forks(self) -> list[Fork]:
        return list(self._forks.values())

    def delete(self, fork_id: str) -> Fork:
        return self._forks.pop(self.get(fork_id).fork_id)

    def snapshot(self) -> Snapshot:
        """ValueError before every cell has reported."""
        plan = {c.cell_id: self._live.reservations(c.cell_id) for c in self._inventory.cells}
        return self.mirror.snapshot(time.time_ns(), plan, self._live.attachments())

    def meaning_of(self, strategy: Strategy, snapshot: Snapshot) -> Meaning:
        """With persistence as the forecast: what the strategy names must exist in any case."""
        link_kbps = snapshot.reservable_kbps / snapshot.columns.reservable_ratio
        return meaning(
            strategy, snapshot, persistence(snapshot.demand_kbps, snapshot.users, link_kbps)
        )

    async def predict(self, forks: Sequence[Fork], horizon_s: float) -> None:
        """Every fork still following, from one and the same newest snapshot.

        Raises `StrategyError`, `WorkerFailed`, ValueError, and what reading user twins raises.
        """
        following = [f for f in forks if f.state == "following"]
        if not following:
            return
        snapshot = await self._with_users(self.snapshot(), [f.strategy for f in following])
        started_s = time.monotonic()
        predictions = await self.worker.predict(
            snapshot, [f.strategy for f in following], horizon_s
        )
        self._prediction_ms.append((time.monotonic() - started_s) * 1000)
        self._predictions += len(predictions)
        for fork, prediction in zip(following, predictions, strict=True):
            fork.prediction, fork.snapshot = prediction, snapshot
            fork.predicted_at_ns = snapshot.taken_at_ns

    async def _with_users(self, snapshot: Snapshot, strategies: Sequence[Strategy]) -> Snapshot:
        users = {s.ue_id for s in strategies if isinstance(s, Handover)}
        found = {ue_id: await self._user_demand(ue_id) for ue_id in sorted(users)}
        return snapshot.with_users(found) if found else snapshot

    async def apply(
        self, fork: Fork, horizon_s: float, dry_run: bool = False
    ) -> list[DecisionRecord]:
        """Its strategy as decisions, one a cell that changes; then the fork is scored.

        Predicts anew first, so that what is compared was made from the newest twins.
        `dry_run`: only the guard's verdicts and the differences; the fork goes on following.
        Raises as `predict`, and `WrongState`.
        """
        if fork.state != "following":
            raise WrongState(f"fork {fork.fork_id} is {fork.state} already")
        await self.predict([fork], horizon_s)
        assert fork.snapshot is not None and fork.prediction is not None
        requests = self._requests(fork, fork.snapshot)
        if dry_run:
            rehearsed = (r.model_copy(update={"dry_run": True}) for r in requests)
            return [await self._decide(request) for request in rehearsed]
        fork.state = "applied"
        records = [await self._decide(request) for request in requests]
        fork.decisions = [
            {"decision_id": r.decision_id, "verdict": r.verdict.value, "reason": r.reason}
            for r in records
        ]
        task = asyncio.ensure_future(self._score_later(fork, horizon_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return records

    def _requests(self, fork: Fork, snapshot: Snapshot) -> list[DecisionRequest]:
        meant = self.meaning_of(fork.strategy, snapshot)
        plan = fork.prediction.plan if fork.prediction is not None else meant.plan
        found = []
        for cell_id, wanted in plan.items():
            held = {(r.slice_id, r.traffic_class): r for r in snapshot.plan[cell_id]}
            changed = [
                r
                for r in wanted
                if held.get((r.slice_id, r.traffic_class)) != shaped(r)
                and r.slice_id in {s.slice_id for s in snapshot.slices}
            ]
            if not changed:
                continue
            reservations = [
                {
                    "s_nssai": self._inventory.slice(r.slice_id).s_nssai.model_dump(),
                    "traffic_class": r.traffic_class.value,
                    "min_kbps": r.min_kbps,
                    "max_kbps": r.max_kbps,
                }
                for r in changed
            ]
            found.append(
                DecisionRequest(
                    trace_id=f"whatif-{fork.fork_id}",
                    xapp=XAPP_NAME,
                    action=Action.RESERVE,
                    target={"cell_id": cell_id},
                    parameters={"reservations": reservations},
                )
            )
        for ue_id, cell_id in meant.moves.items():
            found.append(
                DecisionRequest(
                    trace_id=f"whatif-{fork.fork_id}",
                    xapp=XAPP_NAME,
                    action=Action.HANDOVER,
                    target={"ue_id": ue_id},
                    parameters={"cell_id": cell_id},
                )
            )
        return found

    # -- afterwards -------------------------------------------------------------------

    async def _score_later(self, fork: Fork, horizon_s: float) -> None:
        snapshot, prediction = fork.snapshot, fork.prediction
        assert snapshot is not None and prediction is not None
        period_s = snapshot.period_ms / 1000
        await asyncio.sleep(horizon_s + LATE_WINDOWS * period_s)
        cells = list(snapshot.columns.cells)
        last = snapshot.window + 1 + round(horizon_s / period_s)
        # The window in which the decision fell is neither the old nor the new network's.
        windows = {
            cell: [
                w for w in self.mirror.last_windows(cell, snapshot.window + 1) if w.window <= last
            ]
            for cell in cells
        }
        fork.comparison = compared(prediction, measured(windows, snapshot.slices))
        fork.state = "scored"
        applied = [d["decision_id"] for d in fork.decisions if d["verdict"] == "applied"]
        self._scored.append({"fork_id": fork.fork_id, "name": fork.name, **fork.comparison})
        for decision_id in applied:
            self._note(decision_id, {"fork_id": fork.fork_id, **fork.comparison})

    def summary(self) -> dict[str, Any]:
        """For summary.json: how many forks, how long predictions took, how wrong they were."""
        times = sorted(self._prediction_ms)
        return {
            "predictions": self._predictions,
            "prediction_ms": {
                "p50": times[len(times) // 2] if times else None,
                "max": times[-1] if times else None,
            },
            "applied": self._scored,
        }

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.worker.stop()
