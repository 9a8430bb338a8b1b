"""Aggregates: what is summed, and when a cell's window is complete."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.local.aggregation import UserSample, mean_slices, sample_of, sum_slices
from controller.local.cell_windows import CellWindows, ClosedWindow
from tests.sample_reports import PERIOD_MS, PERIOD_NS, sample_flow, sample_report

WINDOW = 3999
END_NS = (WINDOW + 1) * PERIOD_NS
DEADLINE_NS = END_NS + PERIOD_NS // 2


def sample(window: int = WINDOW, demand_kbps: float = 1000.0, **changes: Any) -> UserSample:
    flows = (sample_flow(demand_kbps=demand_kbps),)
    return sample_of(sample_report(window, flows=flows, **changes), {1, 2})


# -- sums -----------------------------------------------------------------------


def test_only_the_downlink_counts() -> None:
    flows = (sample_flow(demand_kbps=700.0), sample_flow(up=True, demand_kbps=5000.0))
    slices = sample_of(sample_report(flows=flows), {1}).slices
    assert slices[1].demand_kbps == 700.0


def test_every_slice_of_the_inventory_is_in_the_sum() -> None:
    sums = sum_slices([], [3, 1, 2])
    assert [d.slice_id for d in sums] == [3, 1, 2]
    assert all(
        (d.users, d.demand_kbps, d.loss_ratio, d.owd_p95_ms) == (0, 0.0, 0.0, None) for d in sums
    )


def test_rates_add_up_loss_is_weighted_and_delay_is_the_worst() -> None:
    first = sample_of(sample_report(flows=(sample_flow(demand_kbps=3000.0, loss_ratio=0.0),)), {1})
    flow = sample_flow(demand_kbps=1000.0, loss_ratio=0.4, owd_p95_ms=9.0, goodput_kbps=550.0)
    second = sample_of(sample_report(flows=(flow,)), {1, 2})
    one, two = sum_slices([first.slices, second.slices], [1, 2])
    assert (one.users, one.demand_kbps, one.goodput_kbps) == (2, 4000.0, 1450.0)
    assert one.loss_ratio == pytest.approx(0.1)
    assert one.owd_p95_ms == 9.0
    assert (two.users, two.demand_kbps) == (1, 0.0)


def test_several_reports_in_one_window_are_averaged() -> None:
    means = mean_slices([sample(demand_kbps=1000.0), sample(demand_kbps=3000.0)])
    assert means[1].demand_kbps == pytest.approx(2000.0)


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_the_sum_is_the_sum_in_any_order(demands_kbps: list[float]) -> None:
    users = [sample(demand_kbps=d).slices for d in demands_kbps]
    forward, backward = (sum_slices(u, [1])[0].demand_kbps for u in (users, users[::-1]))
    assert forward == pytest.approx(sum(demands_kbps), abs=1e-3)
    assert forward == pytest.approx(backward, abs=2e-3)


# -- windows --------------------------------------------------------------------


def windows(*ue_ids: str, cells: tuple[str, ...] = ("ap1",)) -> CellWindows:
    made = CellWindows(cells, PERIOD_MS, END_NS - 10)
    for ue_id in ue_ids:
        made.attach(ue_id, "ap1", 0)
    return made


def demand_kbps(closed: ClosedWindow) -> float:
    return sum_slices(closed.users, [1])[0].demand_kbps


def test_the_last_awaited_report_completes_the_window_at_its_arrival() -> None:
    w = windows("ue1", "ue2")
    assert w.add("ue1", sample(), END_NS + 5) == []
    (closed,) = w.add("ue2", sample(), END_NS + 9)
    assert (closed.cell_id, closed.window, closed.is_complete) == ("ap1", WINDOW, True)
    assert closed.closed_at_ns == END_NS + 9
    assert (len(closed.users), closed.users_expected) == (2, 2)
    assert demand_kbps(closed) == 2000.0


def test_at_the_deadline_a_window_closes_with_who_reported() -> None:
    w = windows("ue1", "ue2")
    w.add("ue1", sample(), END_NS + 5)
    assert w.close_due(DEADLINE_NS - 1) == []
    (closed,) = w.close_due(DEADLINE_NS)
    assert not closed.is_complete
    assert (len(closed.users), closed.users_expected) == (1, 2)
    assert closed.closed_at_ns == DEADLINE_NS


def test_a_complete_window_is_not_sent_again_at_its_deadline() -> None:
    w = windows("ue1")
    assert len(w.add("ue1", sample(), END_NS + 5)) == 1
    assert w.close_due(DEADLINE_NS) == []


def test_a_late_report_is_counted_and_changes_nothing() -> None:
    w = windows("ue1", "ue2")
    w.close_due(DEADLINE_NS)
    assert w.add("ue1", sample(), DEADLINE_NS + 5) == []
    assert w.late_samples == 1


def test_cells_without_users_close_empty_at_every_deadline() -> None:
    w = windows(cells=("ap1", "ap2"))
    assert [(c.cell_id, c.window, c.users) for c in w.close_due(DEADLINE_NS)] == [
        ("ap1", WINDOW, []),
        ("ap2", WINDOW, []),
    ]
    assert [c.window for c in w.close_due(DEADLINE_NS + PERIOD_NS)] == [WINDOW + 1] * 2


def test_after_a_stall_only_the_last_windows_are_sent_in_order() -> None:
    closed = windows().close_due(DEADLINE_NS + 100 * PERIOD_NS)
    assert [c.window - WINDOW for c in closed] == [97, 98, 99, 100]


def test_deadlines_come_half_a_period_into_the_next_window() -> None:
    w = windows()
    assert w.next_deadline_ns(END_NS) == DEADLINE_NS
    assert w.next_deadline_ns(DEADLINE_NS) == DEADLINE_NS + PERIOD_NS


def test_who_leaves_is_not_awaited_any_more() -> None:
    w = windows("ue1", "ue2")
    w.add("ue1", sample(), END_NS + 5)
    (closed,) = w.attach("ue2", None, END_NS + 7)
    assert (closed.is_complete, closed.closed_at_ns) == (True, END_NS + 7)
    assert (len(closed.users), closed.users_expected) == (1, 1)
    assert w.attachment("ue2") is None


def test_who_came_after_the_windows_end_is_not_awaited_but_counts_if_it_reports() -> None:
    w = windows("ue1")
    w.attach("ue2", "ap1", END_NS + 1)
    (closed,) = w.add("ue1", sample(), END_NS + 5)
    assert closed.users_expected == 1
    w.attach("ue3", "ap1", END_NS + PERIOD_NS + 1)
    w.add("ue3", sample(WINDOW + 1), END_NS + PERIOD_NS + 2)
    w.add("ue2", sample(WINDOW + 1), END_NS + PERIOD_NS + 3)
    (closed,) = w.add("ue1", sample(WINDOW + 1), END_NS + PERIOD_NS + 4)
    assert (len(closed.users), closed.users_expected) == (3, 3)


def test_moving_between_cells_of_one_edge_moves_the_expectation() -> None:
    w = windows("ue1", "ue2", cells=("ap1", "ap2"))
    w.attach("ue2", "ap2", END_NS - 5)
    (first,) = w.add("ue1", sample(), END_NS + 5)
    (second,) = w.add("ue2", sample(), END_NS + 6)
    assert (first.cell_id, second.cell_id) == ("ap1", "ap2")


def test_a_later_window_takes_the_unfinished_earlier_one_along() -> None:
    w = windows("ue1", "ue2")
    w.add("ue1", sample(), END_NS + 5)
    w.add("ue1", sample(WINDOW + 1), END_NS + PERIOD_NS + 1)
    closed = w.add("ue2", sample(WINDOW + 1), END_NS + PERIOD_NS + 2)
    assert [(c.window, c.is_complete) for c in closed] == [(WINDOW, False), (WINDOW + 1, True)]


def test_a_faster_users_reports_are_averaged_and_the_last_completes() -> None:
    w = windows("ue1")
    fast = {"period_ms": 250}
    assert w.add("ue1", sample(2 * WINDOW, 1000.0, **fast), END_NS - PERIOD_NS // 2) == []
    (closed,) = w.add("ue1", sample(2 * WINDOW + 1, 2000.0, **fast), END_NS + 5)
    assert demand_kbps(closed) == pytest.approx(1500.0)


def test_a_slower_users_last_report_stands_until_its_next_is_due() -> None:
    w = windows("ue1", "ue2")
    slow = {"period_ms": 1000}
    slow_end_ns = (WINDOW // 2 + 1) * 2 * PERIOD_NS
    assert slow_end_ns == END_NS
    w.add("ue2", sample(WINDOW // 2, 500.0, **slow), END_NS + 1)
    (closed,) = w.add("ue1", sample(), END_NS + 2)
    assert demand_kbps(closed) == 1500.0
    (closed,) = w.add("ue1", sample(WINDOW + 1), END_NS + PERIOD_NS + 2)
    assert demand_kbps(closed) == 1500.0  # held
    assert w.add("ue1", sample(WINDOW + 2), END_NS + 2 * PERIOD_NS + 2) == []  # due now: awaited
    (closed,) = w.add("ue2", sample(WINDOW // 2 + 1, 800.0, **slow), END_NS + 2 * PERIOD_NS + 3)
    assert demand_kbps(closed) == 1800.0


def test_a_slower_users_report_may_be_on_its_way_when_a_window_must_close() -> None:
    w = windows("ue1", "ue2")
    slow = {"period_ms": 1000}
    w.add("ue2", sample(WINDOW // 2, 500.0, **slow), END_NS + 1)
    for step in range(6):
        w.add("ue1", sample(WINDOW + step), END_NS + step * PERIOD_NS + 2)
        closed = w.close_due(END_NS + step * PERIOD_NS + PERIOD_NS // 2)
        if step >= 2:  # its next one was due at the end of this window
            (window,) = closed
            assert demand_kbps(window) == (1500.0 if step < 4 else 1000.0), step


def test_a_report_of_a_user_that_is_nowhere_here_is_an_error() -> None:
    with pytest.raises(KeyError):
        windows().add("ue1", sample(), END_NS)
