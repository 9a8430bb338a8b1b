"""The emulator's links against what the mechanisms do, and against the controller's own rates."""

from __future__ import annotations

import numpy as np
import pytest

from controller import metering
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.network_state import initial_state
from controller.network_view import network_of
from controller.queues import downlink_rates
from controller.whatif.emulator import Course, Traffic, emulate, scheduled
from controller.whatif.links import METER_BURST_MS, METER_LEAST_BURST_BITS, FloatArray
from controller.whatif.reservations import Columns, rates_of
from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory

ELASTIC, REAL_TIME = TrafficClass.ELASTIC, TrafficClass.REAL_TIME
PACKET_BITS = 6000.0
COLUMNS = Columns(
    ["c1"], [10_000.0], [(1, ELASTIC), (2, REAL_TIME)], [PACKET_BITS] * 3, reservable_ratio=0.9
)
FILLER_KBPS = 10_500.0


def reserved(slice_id: int, traffic_class: TrafficClass, low: int, high: int) -> Reservation:
    return Reservation(slice_id=slice_id, traffic_class=traffic_class, min_kbps=low, max_kbps=high)


PLAN = {"c1": [reserved(1, ELASTIC, 4000, 8000), reserved(2, REAL_TIME, 1000, 1000)]}


def run(
    elastic: float, real_time: float, filler: float = FILLER_KBPS, seconds: float = 10
) -> Course:
    offered = np.tile(np.array([elastic, real_time, filler]), (round(seconds * 40), 1, 1))
    return emulate(COLUMNS.classes(), Traffic(offered), rates_of(COLUMNS, PLAN))


def late(values: FloatArray) -> FloatArray:
    """[class]: mean of the last two seconds."""
    return np.asarray(values[-80:, 0].mean(axis=0))


def test_everything_offered_is_delivered_lost_or_waiting() -> None:
    course = run(6000, 1800)
    sums = [v.sum(axis=0)[0] * course.step_ms for v in (course.offered_kbps, course.delivered_kbps)]
    missing = sums[0] - sums[1] - course.lost_kbps.sum(axis=0)[0] * course.step_ms
    assert (missing >= -1).all()
    assert (missing <= 100 * PACKET_BITS + 1).all()


def test_no_link_sends_more_than_its_rate_for_long() -> None:
    assert run(8000, 1000).delivered_kbps[40:].sum(axis=2).mean() <= 10_000 * 1.001


def test_a_guarantee_holds_beside_a_filler() -> None:
    delivered = late(run(6000, 900).delivered_kbps)
    assert delivered[0] == pytest.approx(4000, rel=0.01)
    assert delivered[1] == pytest.approx(900, rel=0.01)


def test_an_elastic_class_borrows_what_is_idle_up_to_its_ceiling() -> None:
    assert late(run(7000, 500, filler=0).delivered_kbps)[0] == pytest.approx(7000, rel=0.01)
    assert late(run(9500, 500, filler=0).delivered_kbps)[0] == pytest.approx(8000, rel=0.01)


def test_best_effort_borrows_before_elastic() -> None:
    """As in `controller/contracts/queue_tree.py`: the filler takes all that is not guaranteed."""
    assert late(run(6000, 0, filler=20_000).delivered_kbps)[0] == pytest.approx(4000, rel=0.01)


def test_overload_of_a_real_time_class_waits_for_the_meters_burst() -> None:
    """What its meter lets through at once less what its class may send at once, at its rate."""
    wait_ms = late(run(0, 2000).wait_ms)[1]
    meter_bits = max(METER_LEAST_BURST_BITS, 1000 * METER_BURST_MS) - PACKET_BITS
    assert wait_ms == pytest.approx((meter_bits - 48_000) / 1000, rel=0.03)


def test_the_oldest_is_dropped_so_waits_go_by_arrival_not_service() -> None:
    course = run(6000, 0)
    assert late(course.wait_ms)[0] == pytest.approx(100 * PACKET_BITS / 6000, rel=0.03)


def test_a_decision_changes_rates_in_the_middle() -> None:
    more = rates_of(COLUMNS, {"c1": [reserved(1, ELASTIC, 6500, 8000)]})
    offered = np.tile(np.array([6000.0, 0.0, FILLER_KBPS]), (400, 1, 1))
    course = emulate(
        COLUMNS.classes(), Traffic(offered), rates_of(COLUMNS, PLAN), scheduled([(200, more)])
    )
    assert course.delivered_kbps[160:200, 0, 0].mean() == pytest.approx(4000, rel=0.01)
    assert course.delivered_kbps[360:, 0, 0].mean() == pytest.approx(6000, rel=0.01)


def test_rates_are_those_the_controller_gives_its_switches() -> None:
    network = network_of(planned_inventory(two_cells()))
    cell = next(iter(network.cells.values()))
    state = initial_state(network.inventory)
    held = state.reservations[cell.cell_id]
    columns = Columns(
        [cell.cell_id],
        [float(cell.down_kbps)],
        list(network.pairs),
        [PACKET_BITS] * (len(network.pairs) + 1),
        network.inventory.reservable_ratio,
    )
    rates = rates_of(columns, {cell.cell_id: list(held.values())})
    compared = 0
    for column, key in enumerate(network.pairs):
        if key[1] not in (ELASTIC, REAL_TIME):
            continue
        queue = downlink_rates(cell, key, held.get(key))
        found = (rates.min_kbps[0, column], rates.max_kbps[0, column], rates.priority[0, column])
        assert found == (queue.min_kbps, queue.max_kbps, queue.priority), key
        assert rates.meter_kbps[0, column] == metering.ceiling_kbps(cell, held.get(key))
        compared += 1
    assert compared >= 2
    assert metering.BURST_MS == METER_BURST_MS
    assert metering.LEAST_BURST_KBIT * 1000 == METER_LEAST_BURST_BITS
