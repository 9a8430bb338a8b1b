"""The fixed queues of a port: they fit beside the reservations, at every size of link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.contracts.queue_tree import (
    LEAST_RATE_KBPS,
    PRIORITY,
    QueueRates,
    fixed_queues,
    queue_row,
)
from controller.contracts.slices import BEST_EFFORT_QUEUE_ID, CONTROL_QUEUE_ID, TrafficClass

pytestmark = pytest.mark.unit


@given(
    link_kbps=st.integers(1_000, 10_000_000),
    reservable_ratio=st.floats(0.1, 0.9),
)
def test_guarantees_fit_beside_full_reservations(link_kbps: int, reservable_ratio: float) -> None:
    queues = fixed_queues(link_kbps, reservable_ratio)
    guaranteed_kbps = sum(q.min_kbps for q in queues.values())
    assert guaranteed_kbps + link_kbps * reservable_ratio <= link_kbps + 3 * LEAST_RATE_KBPS
    for rates in queues.values():
        assert LEAST_RATE_KBPS <= rates.min_kbps <= rates.max_kbps <= link_kbps


def test_infrastructure_is_first_and_at_most_5_percent() -> None:
    queues = fixed_queues(20_000, 0.9)
    assert queues[0].max_kbps == 1000
    assert queues[0].priority < min(PRIORITY.values())


def test_best_effort_may_fill_the_link_and_borrows_before_elastic() -> None:
    queues = fixed_queues(20_000, 0.9)
    assert queues[BEST_EFFORT_QUEUE_ID].max_kbps == 20_000
    assert PRIORITY[TrafficClass.BEST_EFFORT] < PRIORITY[TrafficClass.ELASTIC]
    assert PRIORITY[TrafficClass.REAL_TIME] < PRIORITY[TrafficClass.BEST_EFFORT]
    assert queues[CONTROL_QUEUE_ID].priority == PRIORITY[TrafficClass.CONTROL]


def test_without_slicing_queue_0_is_the_link() -> None:
    assert fixed_queues(20_000, 0.9, slicing=False) == {0: QueueRates(20_000, 20_000, 0)}


def test_row_shape() -> None:
    assert queue_row(QueueRates(3000, 8000, 2)) == {
        "min-rate": "3000000",
        "max-rate": "8000000",
        "burst": "80000",
        "priority": "2",
    }
    assert queue_row(QueueRates(1, 8000, 2))["min-rate"] == "12000"
