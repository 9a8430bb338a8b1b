"""Does the fork predicted to be best turn out best?  On recorded runs, with emulated outcomes.

At each moment a fork sees what the run's twins had shown until then, and no more.  The truth
of every strategy is the emulator under the traffic that the run then really had, so what is
judged is the forecast and the choice; that the emulator's outcomes are the packets' is judged
by its delays and rates on held-out runs, and by live forks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recorded import Recorded, finer, specified
from controller.contracts.inventory import Reservation
from controller.whatif.calibration import Calibration
from controller.whatif.emulator import STEP_MS, Traffic, scheduled
from controller.whatif.emulator import run as emulated
from controller.whatif.forecast import Forecaster
from controller.whatif.links import Links
from controller.whatif.predicting import predict
from controller.whatif.recording import cell_events
from controller.whatif.reservations import rates_of, stacked
from controller.whatif.scoring import Delays, outcomes, score
from controller.whatif.snapshot import Mirror, Site, Snapshot
from controller.whatif.strategies import Follow, Hold, Proportional, Static, Strategy
from topologies.results.tables import read_table

STRATEGIES: tuple[Strategy, ...] = (Hold(), Static(), Proportional(), Follow())
HORIZON_S = 2.0
EVERY_S = 2.0
"""As long as a fork looks ahead, so no two share what became of them."""
FIRST_S = 4.0


@dataclass(frozen=True)
class Pick:
    """One fork moment: scores predicted and true, by strategy, and which had the best of each."""

    run: str
    t_s: float
    predicted: dict[str, float]
    true: dict[str, float]
    regret: float
    """What the pick's true score lacks to the best one's."""

    @property
    def chosen(self) -> str:
        return max(self.predicted, key=lambda name: self.predicted[name])


def site_of(run: Recorded, calibration: Calibration) -> Site:
    """What the run's inventory said of its network."""
    specs = run.scenario.static_reservations
    plan = {
        cell: tuple(specified(run.scenario, s) for s in specs if s.access_point == cell)
        for cell in run.columns.cells
    }
    bits = [8 * calibration.packet_bytes] * len(run.columns.pairs)
    columns = type(run.columns)(
        run.columns.cells,
        run.columns.link_kbps,
        run.columns.pairs,
        [*bits, run.columns.packet_bits[-1]],
        run.columns.reservable_ratio,
    )
    period_ms = run.scenario.twins.report_period_ms
    return Site(columns, tuple(run.scenario.slices), plan, run.paths, period_ms)


def events(folder: Path, run: Recorded) -> list[dict[str, Any]]:
    table = read_table(folder, "twins")
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    link_kbps = dict(zip(run.columns.cells, run.columns.link_kbps, strict=True))
    return list(cell_events(rows, link_kbps, run.scenario.reservable_ratio))


def fork_times_s(run: Recorded) -> list[float]:
    """Every `EVERY_S`, with a whole horizon after each."""
    count = int((run.duration_s - HORIZON_S - FIRST_S) // EVERY_S) + 1
    return [FIRST_S + EVERY_S * index for index in range(count)]


def moments(
    folder: Path, run: Recorded, calibration: Calibration, at_s: Sequence[float]
) -> Iterator[tuple[float, Snapshot]]:
    """Snapshots as a fork would have had them, `at_s` seconds into the window (ascending)."""
    mirror = Mirror(site_of(run, calibration), calibration)
    for cell, kbps in zip(run.columns.cells, run.filler_kbps, strict=True):
        mirror.count(cell, 15, float(kbps))
    start_ns = run.summary["measured"]["start_ns"]
    wanted = list(at_s)
    plan: dict[str, tuple[Reservation, ...]] = {}
    for event in events(folder, run):
        t_s = (event["received_at_ns"] - start_ns) / 1e9
        while wanted and t_s >= wanted[0]:
            next_s = wanted.pop(0)
            yield next_s, mirror.snapshot(round(start_ns + next_s * 1e9), plan, {})
        mirror.follow(event)
        plan[event["id"]] = tuple(
            Reservation(
                slice_id=item["slice_id"],
                traffic_class=item["traffic_class"],
                min_kbps=item["reservation"]["min_kbps"],
                max_kbps=item["reservation"]["max_kbps"],
            )
            for item in event["slices"]
            if item["reservation"]["min_kbps"] > 0
        )


def picks(
    folder: Path,
    run: Recorded,
    calibration: Calibration,
    forecast: Forecaster,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> list[Pick]:
    traffic = finer(run.offered_kbps + run.tcp_kbps)
    found = []
    for t_s, snapshot in moments(folder, run, calibration, fork_times_s(run)):
        predictions = predict(snapshot, strategies, HORIZON_S, forecast, calibration)
        plans = [p.plan for p in predictions]
        truth = true_scores(run, traffic, t_s, snapshot, plans, calibration)
        names: list[str] = [s.kind for s in strategies]
        predicted = {n: p.score for n, p in zip(names, predictions, strict=True)}
        true = dict(zip(names, truth, strict=True))
        chosen = max(predicted, key=lambda n: predicted[n])
        regret = max(true.values()) - true[chosen]
        found.append(Pick(run.name, t_s, predicted, true, regret))
    return found


def true_scores(
    run: Recorded,
    traffic: Any,
    t_s: float,
    snapshot: Snapshot,
    plans: Sequence[Any],
    calibration: Calibration,
) -> list[float]:
    """Each plan, all at once, under the run's own traffic from `t_s` on."""
    first, steps = (round(s * 1000 / STEP_MS) for s in (t_s, HORIZON_S))
    own = traffic[: first + steps]
    filler = np.broadcast_to(run.filler_kbps[None, :, None], (*own.shape[:2], 1))
    offered = np.concatenate([own, filler], axis=2)
    at = [(round(s * 1000 / STEP_MS), rates) for s, rates in run.changes[1:] if s < t_s]
    links = Links(run.columns.classes(), run.changes[0][1])
    emulated(links, Traffic(offered[:first]), scheduled(at))
    links = links.forked(len(plans), stacked([rates_of(run.columns, plan) for plan in plans]))
    course = emulated(links, Traffic(np.tile(offered[first:], (1, len(plans), 1))))
    cells = len(run.columns.cells)
    delays = Delays.on(run.paths, calibration)
    scores = []
    for index, plan in enumerate(plans):
        rows = slice(index * cells, (index + 1) * cells)
        slices = run.scenario.slices
        of_slices = outcomes(course, rows, slices, range(len(slices)), delays)
        satisfied = float(np.mean([o.satisfied_ratio for o in of_slices]))
        reserved = float(sum(r.min_kbps for of_cell in plan.values() for r in of_cell))
        scores.append(score(satisfied, reserved / float(snapshot.reservable_kbps.sum())))
    return scores
