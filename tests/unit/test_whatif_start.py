"""What a fork starts from: the demand, queues and delays of now, though twins are older."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.whatif.calibration import Calibration
from controller.whatif.emulator import Traffic, run
from controller.whatif.forecast import ARRIVE_MS, Futures, persistence
from controller.whatif.links import Links
from controller.whatif.predicting import Prediction, predict
from controller.whatif.reservations import Columns, rates_of, stacked
from controller.whatif.snapshot import Mirror, Site, Snapshot
from controller.whatif.strategies import Hold
from tests.ric_inventory import ric_inventory

CALIBRATION = Calibration.load()
INVENTORY = ric_inventory()
PERIOD_MS = 500
FIRST = 3_591_249_000
HELD = {"min_kbps": 8000, "max_kbps": 20_000}
PLAN = {c.cell_id: c.reservations for c in INVENTORY.initial_reservations}


def mirror(
    video_kbps: Sequence[float],
    owd_p95_ms: Sequence[float] | None = None,
    held: dict[str, int] | None = None,
) -> Mirror:
    """Windows of both cells, beside a filler: the first slice as told, the other asks nothing."""
    made = Mirror(Site.of(INVENTORY, CALIBRATION.packet_bytes), CALIBRATION)
    for cell in INVENTORY.cells:
        made.count(cell.cell_id, 15, 1.05 * cell.down_kbps)
        for index, kbps in enumerate(video_kbps):
            owd_ms = owd_p95_ms[index] if owd_p95_ms else 1.0
            made.follow(_event(cell.cell_id, FIRST + index, kbps, owd_ms, held or HELD))
    return made


def _event(
    cell_id: str, window: int, kbps: float, owd_p95_ms: float, held: dict[str, int]
) -> dict[str, Any]:
    def of(slice_id: int) -> dict[str, Any]:
        return {
            "slice_id": slice_id,
            "users": 1,
            "demand_kbps": kbps if slice_id == 1 else 0.0,
            "goodput_kbps": kbps if slice_id == 1 else 0.0,
            "loss_ratio": 0.0,
            "owd_p95_ms": owd_p95_ms,
            "reservation": held if slice_id == 1 else {"min_kbps": 2000, "max_kbps": 2000},
        }

    slices = [of(s.slice_id) for s in INVENTORY.slices]
    return {"id": cell_id, "window": window, "period_ms": PERIOD_MS, "slices": slices}


def snapshot(made: Mirror, age_ms: float = 0.0) -> Snapshot:
    ends_ms = (made.newest_window or 0) * PERIOD_MS + PERIOD_MS
    return made.snapshot(round((ends_ms + age_ms) * 1e6), PLAN, {})


def hold(made: Mirror) -> Prediction:
    return predict(snapshot(made), [Hold()], 1.0, persistence, CALIBRATION)[0]


# -- delays without a queue -------------------------------------------------------------------


def test_a_queue_that_still_drains_says_nothing_of_a_paths_delay() -> None:
    """The window after an overload asks for little, and its packets still waited."""
    made = mirror([12_000, 12_000, 6000], [200.0, 200.0, 230.0])
    unqueued = snapshot(made).unqueued_ms[0, 0]
    assert unqueued == pytest.approx(CALIBRATION.unqueued_ms(paths(), 0.95)[0, 0])


def test_once_a_full_queue_must_have_gone_delays_are_the_paths() -> None:
    calm = mirror([12_000, 2000, 2000, 2000], [200.0, 200.0, 7.0, 7.0])
    assert snapshot(calm).unqueued_ms[0, 0] == pytest.approx(7.0)


def test_what_a_path_needs_is_not_forgotten_while_nothing_new_is_learnt() -> None:
    made = mirror([2000] * 4 + [12_000] * 60, [7.0] * 4 + [200.0] * 60)
    assert snapshot(made).unqueued_ms[0, 0] == pytest.approx(7.0)


def paths() -> Any:
    return Site.of(INVENTORY, CALIBRATION.packet_bytes).paths


# -- queues and demand of now ------------------------------------------------------------------


def test_a_fork_starts_with_the_queue_that_demand_has_left() -> None:
    """Both ask for nearly all that is held now; only one of them comes from an overload."""
    after_overload, calm = hold(mirror([12_000] * 8 + [7900] * 2)), hold(mirror([7900] * 10))
    assert after_overload.slices[0].owd_p95_ms > 40
    assert calm.slices[0].owd_p95_ms < 5


def test_a_queue_comes_from_what_was_held_then_not_from_what_is_held_now() -> None:
    little = {"min_kbps": 4000, "max_kbps": 20_000}
    assert hold(mirror([7500] * 10, held=little)).slices[0].owd_p95_ms > 40
    assert hold(mirror([7500] * 10)).slices[0].owd_p95_ms < 5


def test_demand_goes_from_what_twins_showed_to_the_futures_level() -> None:
    seen = np.arange(1.0, 9.0)[:, None, None] * 1000
    futures = Futures("test", np.full((1, 1, 1), 20_000.0), np.ones(1), np.zeros((1, 1)))
    at_ms = np.array([-1750.0, -1250.0, -500.0, ARRIVE_MS / 2 - 250, ARRIVE_MS, 5000.0])
    found = futures.offered_kbps(seen, at_ms, PERIOD_MS)[:, 0, 0, 0]
    assert found[:3] == pytest.approx([5000, 6000, 7500])
    assert found[3:] == pytest.approx([(7500 + 20_000) / 2, 20_000, 20_000])


def test_older_twins_mean_that_more_of_a_rise_has_happened() -> None:
    rising = mirror([1000.0 + 500 * i for i in range(8)])
    level = Futures("test", np.full((1, 2, 2), 7000.0), np.ones(1), np.full((2, 2), 7000.0))

    def offered(age_ms: float) -> float:
        taken = snapshot(rising, age_ms)
        found = predict(taken, [Hold()], 1.0, lambda *_: level, CALIBRATION)[0]
        return found.slices[0].offered_kbps

    assert offered(500.0) > offered(0.0) + 500


def test_forks_of_links_go_on_where_they_were() -> None:
    reserved = Reservation(
        slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=2000, max_kbps=4000
    )
    pairs = [(1, TrafficClass.ELASTIC)]
    columns = Columns(["c1"], [10_000.0], pairs, [6000.0] * 2, reservable_ratio=0.9)
    rates = rates_of(columns, {"c1": [reserved]})
    offered = np.tile(np.array([3000.0, 10_500.0]), (40, 1, 1))
    links = Links(columns.classes(), rates)
    run(links, Traffic(offered))
    forks = links.forked(2, stacked([rates, rates]))
    of_forks = run(forks, Traffic(np.tile(offered, (1, 2, 1))))
    going_on = run(links, Traffic(offered))
    for row in (0, 1):
        assert of_forks.wait_ms[:, row] == pytest.approx(going_on.wait_ms[:, 0])
        assert of_forks.delivered_kbps[:, row] == pytest.approx(going_on.delivered_kbps[:, 0])
