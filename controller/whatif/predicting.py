"""Predicting forks: every strategy under every future, in one run of the emulator. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from controller.contracts.inventory import Reservation
from controller.whatif.calibration import Calibration
from controller.whatif.emulator import STEP_MS, Course, Traffic, run, scheduled
from controller.whatif.forecast import Forecaster, Futures, now_kbps
from controller.whatif.links import FloatArray, Links
from controller.whatif.reservations import rates_of, stacked
from controller.whatif.scoring import Delays, SliceOutcome, outcomes, score
from controller.whatif.snapshot import WARM_UP_WINDOWS, Snapshot
from controller.whatif.strategies import Meaning, Strategy, meaning


@dataclass(frozen=True)
class Prediction:
    """Of one strategy over `horizon_s`: expected values over the futures."""

    window: int
    """Of the twins it was made from."""
    horizon_s: float
    forecast: str
    satisfied_ratio: float
    """Mean over slices of windows in which the SLA holds."""
    reserved_kbps: float
    score: float
    slices: tuple[SliceOutcome, ...]
    plan: Mapping[str, tuple[Reservation, ...]]
    """What would be reserved, by cell; for a plan that follows demand, by this forecast."""

    def document(self, snapshot: Snapshot) -> dict[str, Any]:
        names = {s.slice_id: s for s in snapshot.slices}
        return {
            "window": self.window,
            "horizon_s": self.horizon_s,
            "forecast": self.forecast,
            "satisfied_ratio": self.satisfied_ratio,
            "reserved_kbps": self.reserved_kbps,
            "score": self.score,
            "plan": {
                cell_id: [r.model_dump(mode="json") for r in held]
                for cell_id, held in self.plan.items()
            },
            "slices": [
                {"s_nssai": names[o.slice_id].s_nssai.model_dump(), **asdict(o)}
                for o in self.slices
            ],
        }


def predict(
    snapshot: Snapshot,
    strategies: Sequence[Strategy],
    horizon_s: float,
    forecast: Forecaster,
    calibration: Calibration,
) -> list[Prediction]:
    """One for each strategy, all from the same futures. Raises `StrategyError`."""
    link_kbps = np.asarray(snapshot.columns.link_kbps)
    futures = forecast(snapshot.demand_kbps, snapshot.users, link_kbps)
    meanings = [meaning(s, snapshot, futures) for s in strategies]
    course = _course(snapshot, meanings, futures, horizon_s)
    return [
        _expected(
            snapshot, m, futures, horizon_s, _of_strategy(course, snapshot, futures, i, calibration)
        )
        for i, m in enumerate(meanings)
    ]


def _course(
    snapshot: Snapshot, meanings: Sequence[Meaning], futures: Futures, horizon_s: float
) -> Course:
    """Rows: strategy, future, cell; strategies outermost.

    What twins showed runs first, under what was then held, up to now: queues and buckets are
    those of this moment, though the newest window is older.
    """
    steps = max(1, round(horizon_s * 1000 / STEP_MS))
    columns, worlds, period_ms = snapshot.columns, futures.weight.size, snapshot.period_ms
    early = round((WARM_UP_WINDOWS * period_ms + snapshot.age_ms) / STEP_MS)
    at_ms: FloatArray = np.asarray(
        snapshot.age_ms + (np.arange(-early, steps) + 0.5) * STEP_MS, dtype=np.float64
    )
    own = futures.offered_kbps(snapshot.demand_kbps, at_ms, period_ms)
    best_effort = np.broadcast_to(
        snapshot.best_effort_kbps[None, None, :, None], (*own.shape[:3], 1)
    )
    links = _warmed(snapshot, worlds, _rows(np.concatenate([own, best_effort], axis=3)[:early]))
    after, best_effort = own[early:], best_effort[early:]
    offered = [
        _rows(np.concatenate([_with_moves(after, snapshot, m), best_effort], axis=3))
        for m in meanings
    ]
    rates = stacked([r for m in meanings for r in [rates_of(columns, m.plan)] * worlds])
    forked = links.forked(len(meanings), rates)
    return run(forked, Traffic(np.concatenate(offered, axis=1)))


def _rows(offered: FloatArray) -> FloatArray:
    """[step, future, cell, class] -> [step, row, class]."""
    return offered.reshape(offered.shape[0], -1, offered.shape[3])


def _warmed(snapshot: Snapshot, worlds: int, offered: FloatArray) -> Links:
    """All futures' links as they are now; a window's plan is in force from its middle on."""
    columns, per_window = snapshot.columns, snapshot.period_ms / STEP_MS
    plans = [rates_of(columns, plan) for plan in (*snapshot.plans, snapshot.plan)]
    every = [stacked([rates] * worlds) for rates in plans]
    changes = [(round((index + 0.5) * per_window), rates) for index, rates in enumerate(every[:-1])]
    changes.append((round(len(snapshot.plans) * per_window), every[-1]))
    links = Links(columns.classes(worlds), every[0])
    full = snapshot.best_effort_kbps > 0.98 * np.asarray(columns.link_kbps)
    backlog = np.zeros((len(columns.cells), columns.best_effort + 1))
    backlog[:, -1] = np.where(full, 1e9, 0)
    links.set_backlog(np.tile(backlog, (worlds, 1)))
    run(links, Traffic(offered), scheduled(changes))
    return links


def _with_moves(offered: FloatArray, snapshot: Snapshot, m: Meaning) -> FloatArray:
    """Demand with the moved users' share taken along, [step, future, cell, slice]."""
    moved = offered
    cells = list(snapshot.columns.cells)
    now = now_kbps(snapshot.demand_kbps)
    for ue_id, cell_id in m.moves.items():
        source, target = cells.index(snapshot.attachments[ue_id]), cells.index(cell_id)
        moved = moved.copy()
        for column, slice_ in enumerate(snapshot.slices):
            asked = snapshot.user_kbps.get(ue_id, {}).get(slice_.slice_id, 0.0)
            share = min(1.0, asked / max(now[source, column], 1e-9))
            taken = moved[:, :, source, column] * share
            moved[:, :, source, column] -= taken
            moved[:, :, target, column] += taken
    return moved


def _of_strategy(
    course: Course, snapshot: Snapshot, futures: Futures, index: int, calibration: Calibration
) -> list[list[SliceOutcome]]:
    """Of each future."""
    cells, worlds = len(snapshot.columns.cells), futures.weight.size
    # What twins show of a calm path is a p95; the calibrated spread leads back to its median.
    p95 = float(calibration.spread(np.array(0.95)))
    switching = calibration.switching_ms(snapshot.paths)
    wires = np.maximum(snapshot.unqueued_ms - p95 * switching, 0.0)
    switching = np.where(wires > 0, switching, snapshot.unqueued_ms / p95)
    delays = Delays(wires, switching, calibration)
    found = []
    for world in range(worlds):
        first = (index * worlds + world) * cells
        rows = slice(first, first + cells)
        found.append(outcomes(course, rows, snapshot.slices, range(len(snapshot.slices)), delays))
    return found


def _expected(
    snapshot: Snapshot,
    m: Meaning,
    futures: Futures,
    horizon_s: float,
    by_future: list[list[SliceOutcome]],
) -> Prediction:
    def mean(index: int, name: str) -> float:
        values = [getattr(of_future[index], name) for of_future in by_future]
        return float(np.dot(futures.weight, values))

    names = ("satisfied_ratio", "offered_kbps", "delivered_kbps", "loss_ratio")
    delays = ("owd_mean_ms", "owd_p95_ms")
    slices = tuple(
        SliceOutcome(s.slice_id, *(mean(i, name) for name in (*names, *delays)))
        for i, s in enumerate(snapshot.slices)
    )
    reserved = float(sum(r.min_kbps for held in m.plan.values() for r in held))
    satisfied = float(np.mean([o.satisfied_ratio for o in slices]))
    return Prediction(
        snapshot.window,
        horizon_s,
        futures.source,
        satisfied,
        reserved,
        score(satisfied, reserved / float(snapshot.reservable_kbps.sum())),
        slices,
        m.plan,
    )
