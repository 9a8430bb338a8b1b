"""Forks: what they start from, what strategies mean, what predictions say, how they are judged."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.contracts.decisions import DecisionRecord, DecisionRequest, Effect, Verdict
from controller.contracts.inventory import Inventory
from controller.guard import CellView, GuardLimits, check_slew, key_of
from controller.whatif.calibration import Calibration
from controller.whatif.comparing import compared, measured
from controller.whatif.forecast import Futures, persistence
from controller.whatif.predicting import Prediction, predict
from controller.whatif.service import UnknownFork, WhatIf, WrongState
from controller.whatif.snapshot import Mirror, Site, Snapshot
from controller.whatif.strategies import (
    Follow,
    Handover,
    Hold,
    Proportional,
    Reserve,
    Static,
    StrategyError,
    meaning,
)
from controller.whatif.worker import Worker
from tests.in_memory_enforcer import InMemoryEnforcer
from tests.ric_inventory import VIDEO, ric_inventory

CALIBRATION = Calibration.load()
INVENTORY = ric_inventory()
NOW_NS = 10**18


def event(
    cell_id: str, window: int, video_kbps: float, inventory: Inventory = INVENTORY, **more: Any
) -> dict[str, Any]:
    """A `cell` event: the first slice asks for `video_kbps`, the others for 100."""
    held = {
        r.slice_id: r
        for c in inventory.initial_reservations
        if c.cell_id == cell_id
        for r in c.reservations
    }
    return {
        "id": cell_id,
        "window": window,
        "period_ms": 500,
        "slices": [
            {
                "slice_id": s.slice_id,
                "users": 1,
                "demand_kbps": video_kbps if s.slice_id == 1 else 100.0,
                "goodput_kbps": video_kbps,
                "loss_ratio": 0.0,
                "owd_p95_ms": 1.0,
                "reservation": {"min_kbps": held[s.slice_id].min_kbps if s.slice_id in held else 0},
                **more,
            }
            for s in inventory.slices
        ],
    }


def mirror(video_kbps: float = 3000.0, windows: int = 30) -> Mirror:
    made = Mirror(Site.of(INVENTORY, CALIBRATION.packet_bytes), CALIBRATION)
    for window in range(windows):
        for cell in INVENTORY.cells:
            made.follow(event(cell.cell_id, window, video_kbps))
    for cell in INVENTORY.cells:
        made.count(cell.cell_id, 15, 1.05 * cell.down_kbps)
    return made


def snapshot(video_kbps: float = 3000.0) -> Snapshot:
    plan = {c.cell_id: c.reservations for c in INVENTORY.initial_reservations}
    return mirror(video_kbps).snapshot(NOW_NS, plan, {u.ue_id: u.cell_id for u in INVENTORY.users})


def futures_of(taken: Snapshot) -> Futures:
    return persistence(taken.demand_kbps, taken.users, np.asarray(taken.columns.link_kbps))


def less_video(min_kbps: float) -> Reserve:
    wanted = {"s_nssai": VIDEO, "min_kbps": min_kbps, "max_kbps": 2 * min_kbps}
    return Reserve.model_validate({"cells": {"ap1": [wanted], "ap2": [wanted]}})


def predicted(taken: Snapshot, *strategies: Any) -> list[Prediction]:
    return predict(taken, strategies, 3.0, persistence, CALIBRATION)


# -- the snapshot ---------------------------------------------------------------------


def test_there_is_no_fork_before_every_cell_has_reported() -> None:
    made = Mirror(Site.of(INVENTORY, 800), CALIBRATION)
    made.follow(event("ap1", 1, 1000.0))
    with pytest.raises(ValueError, match="no twin data of ap2"):
        made.snapshot(NOW_NS, {}, {})


def test_a_snapshot_repeats_missing_windows_and_ignores_late_ones() -> None:
    made = mirror(windows=3)
    made.follow(event("ap1", 6, 5000.0))
    made.follow(event("ap1", 4, 9000.0))
    demand = made.snapshot(NOW_NS, {}, {}).demand_kbps[:, 0, 0]
    assert demand[-4:].tolist() == [3000.0, 3000.0, 3000.0, 5000.0]


def test_a_snapshot_travels_to_the_worker_whole() -> None:
    taken = snapshot()
    again = pickle.loads(pickle.dumps(taken))
    assert predicted(again, Hold())[0] == predicted(taken, Hold())[0]


# -- strategies -------------------------------------------------------------------------


def test_plans_never_promise_more_than_is_reservable() -> None:
    taken = snapshot(30_000.0)
    for strategy in (Proportional(), Follow(margin_ratio=2.0)):
        plan = meaning(strategy, taken, futures_of(taken)).plan
        for room_kbps, cell_id in zip(taken.reservable_kbps, plan, strict=True):
            assert sum(r.min_kbps for r in plan[cell_id]) <= room_kbps


def test_plans_go_no_further_than_the_guard_lets_one_decision_go() -> None:
    taken = snapshot(12_000.0)
    little = {
        cell_id: tuple(r.model_copy(update={"min_kbps": 500, "max_kbps": 900}) for r in held)
        for cell_id, held in taken.plan.items()
    }
    taken = replace(taken, plan=little)
    for strategy in (Proportional(), Follow()):
        plan = meaning(strategy, taken, futures_of(taken)).plan
        for cell_id, wanted in plan.items():
            view = CellView(cell_id, 20_000, 0.9, {key_of(r): r for r in taken.plan[cell_id]})
            assert check_slew(view, wanted, GuardLimits()) is None
            assert max(r.min_kbps for r in wanted) == 3000, "as far as the guard lets it go"


def test_what_a_reserve_does_not_name_stays() -> None:
    taken = snapshot()
    plan = meaning(less_video(1000), taken, futures_of(taken)).plan
    held = {r.slice_id: r.min_kbps for r in plan["ap1"]}
    assert held[1] == 1000
    assert held[2] == 2000


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Static(), "no static_reservations"),
        (Handover(ue_id="nobody", cell_id="ap1"), "unknown user 'nobody'"),
        (Handover(ue_id=INVENTORY.users[0].ue_id, cell_id="ap9"), "unknown cell 'ap9'"),
    ],
)
def test_a_strategy_that_means_nothing_here_says_why(strategy: Any, words: str) -> None:
    taken = snapshot()
    with pytest.raises(StrategyError, match=words):
        meaning(strategy, taken, futures_of(taken))


# -- predictions --------------------------------------------------------------------------


def test_less_than_demand_is_predicted_to_break_the_sla_and_to_lose_the_difference() -> None:
    hold, less = predicted(snapshot(), Hold(), less_video(1000))
    assert hold.satisfied_ratio == 1.0
    assert less.satisfied_ratio < 1.0
    assert less.score < hold.score
    video = less.slices[0]
    assert video.delivered_kbps == pytest.approx(2 * 1000, rel=0.15)
    assert video.offered_kbps == pytest.approx(2 * 3000, rel=0.01)


def test_of_two_plans_that_satisfy_the_smaller_one_wins() -> None:
    hold, less = predicted(snapshot(), Hold(), less_video(4000))
    assert hold.satisfied_ratio == less.satisfied_ratio == 1.0
    assert less.score > hold.score


def test_a_moved_user_takes_its_demand_along() -> None:
    taken = snapshot(7000.0)
    user = next(u for u in INVENTORY.users if u.cell_id == "ap1")
    taken = taken.with_users({user.ue_id: {1: 6000.0}})
    hold, moved = predicted(taken, Hold(), Handover(ue_id=user.ue_id, cell_id="ap2"))
    assert hold.slices[0].loss_ratio < 0.01
    assert moved.slices[0].loss_ratio > 0.2
    assert moved.slices[0].offered_kbps == pytest.approx(hold.slices[0].offered_kbps, rel=0.01)


def test_comparing_tells_the_relative_error_of_what_twins_showed() -> None:
    made = mirror()
    taken = snapshot()
    prediction = predicted(taken, Hold())[0]
    for window in range(30, 36):
        for cell in INVENTORY.cells:
            made.follow(event(cell.cell_id, window, 4000.0))
    windows = {c.cell_id: made.last_windows(c.cell_id, 29) for c in INVENTORY.cells}
    document = compared(prediction, measured(windows, INVENTORY.slices))
    error = document["slices"][0]["error_ratio"]
    assert error["offered_kbps"] == pytest.approx(3000 / 4000 - 1, abs=0.01)
    assert document["measured_satisfied_ratio"] == 1.0


# -- the service -----------------------------------------------------------------------------


class Bench:
    """A service on an in-memory network; `decided` are the requests that reached the guard."""

    def __init__(self) -> None:
        self.decided: list[DecisionRequest] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.network = InMemoryEnforcer(INVENTORY)
        self.service = WhatIf(INVENTORY, self.network, self.decide, self.user_demand, self.note)
        self.service.mirror = mirror()

    async def decide(self, request: DecisionRequest) -> DecisionRecord:
        self.decided.append(request)
        fields = request.model_dump(include={"trace_id", "xapp", "action", "target", "parameters"})
        return DecisionRecord(
            decision_id=f"d{len(self.decided)}",
            based_on=[],
            verdict=Verdict.APPLIED,
            effect=Effect.PENDING,
            **fields,
        )

    async def user_demand(self, ue_id: str) -> dict[int, float]:
        return {1: 500.0}

    def note(self, decision_id: str, detail: dict[str, Any]) -> None:
        self.notes.append((decision_id, detail))


def test_forks_predict_in_a_process_of_their_own_and_follow_until_applied() -> None:
    asyncio.run(_follow_and_apply())


async def _follow_and_apply() -> None:
    bench = Bench()
    service = bench.service
    await bench.network.install()
    try:
        hold, less = service.fork("", Hold()), service.fork("less", less_video(1000))
        await service.predict([hold, less], 2.0)
        assert hold.prediction is not None and less.prediction is not None
        assert hold.prediction.score > less.prediction.score
        first = hold.prediction.window
        for cell in INVENTORY.cells:
            service.mirror.follow(event(cell.cell_id, 30, 3000.0))
        records = await service.apply(less, 1.0)
        assert less.prediction.window == first + 1, "not in step with the newest twins"
        assert [r.target["cell_id"] for r in records] == ["ap1", "ap2"]
        assert [r["min_kbps"] for r in bench.decided[0].parameters["reservations"]] == [1000.0]
        with pytest.raises(WrongState):
            await service.apply(less, 1.0)
        assert service.delete(hold.fork_id) is hold
        with pytest.raises(UnknownFork):
            service.get(hold.fork_id)
        assert await service.apply(service.fork("", Hold()), 1.0) == [], "hold changes nothing"
    finally:
        await service.stop()


def test_a_worker_that_was_killed_is_replaced() -> None:
    asyncio.run(_killed_worker())


async def _killed_worker() -> None:
    worker, taken = Worker(), snapshot()
    try:
        await worker.predict(taken, [Hold()], 1.0)
        assert worker._process is not None
        worker._process.kill()
        await worker._process.wait()
        assert len(await worker.predict(taken, [Hold(), Hold()], 1.0)) == 2
    finally:
        await worker.stop()
