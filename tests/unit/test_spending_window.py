"""What twins cost lately: rates from counters, restarts, silence, and when a change has settled."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts.twin_budget import EdgeSpent, TwinBudget
from controller.ric.spending_window import SETTLED_NS, WINDOW_NS, SpendingWindow
from controller.ric.twin_budget import _too_little
from controller.twins.spending import LONGEST_MS, Measured, Payer, Setting

SECOND_NS = 1_000_000_000


def sample(at_s: float, edge: str = "edge1", pid: int = 1, **users: int) -> EdgeSpent:
    """Users by how many datagrams of 700 B they have sent; nobody else sends."""
    document: dict[str, Any] = {
        "edge": edge,
        "pid": pid,
        "at_ns": round(at_s * SECOND_NS),
        "processor_s": 0.1 * at_s,
        "report_datagrams": sum(users.values()),
        "report_bytes": 700 * sum(users.values()),
        "order_bytes": 0,
        "aggregate_bytes": round(1000 * at_s),
        "move_bytes": 0,
        "users": [
            {
                "ue_id": ue_id,
                "cell_id": "ap1",
                "datagrams": datagrams,
                "wire_bytes": 700 * datagrams,
                "demand_kbps": {},
                "growth_kbps_per_s": {},
                "observed_s": 60.0,
                "loss_ratio": {},
                "handover_margin_db": None,
                "is_moving": False,
            }
            for ue_id, datagrams in users.items()
        ],
    }
    return EdgeSpent.model_validate(document)


def test_rates_are_of_what_came_between_two_samples() -> None:
    window = SpendingWindow()
    window.add(sample(10, ue1=20))
    assert not window.is_known
    window.add(sample(14, ue1=28))
    assert window.edge_rates("edge1") == pytest.approx(
        {
            "bytes_per_s": 2400,
            "report_bytes_per_s": 1400,
            "order_bytes_per_s": 0,
            "aggregate_bytes_per_s": 1000,
            "move_bytes_per_s": 0,
            "processor_ratio": 0.1,
            "window_s": 4,
        }
    )
    assert window.user_bytes_per_s("ue1") == 1400
    assert window.report_bytes("ue1") == 700
    assert window.report_bytes("ue9") is None


def test_edges_add_up_and_what_payers_do_not_pay_is_other() -> None:
    window = SpendingWindow()
    for at_s in (0, 5):
        window.add(sample(at_s, ue1=2 * at_s))
        window.add(sample(at_s, edge="edge2", pid=2, ue2=at_s))
    assert window.document()["total"] == {"bytes_per_s": 4100, "processor_ratio": 0.2}
    assert window.measured({"ue1"}).other_bytes_per_s == pytest.approx(700 + 2 * 1000)
    assert window.measured({"ue1", "ue2"}).other_bytes_per_s == pytest.approx(2 * 1000)


def test_a_user_that_moved_costs_what_it_costs_at_its_new_edge() -> None:
    window = SpendingWindow()
    for at_s in (0, 2, 4):
        window.add(sample(at_s, ue1=2 * at_s))
        window.add(sample(at_s, edge="edge2", pid=2))
    for at_s in (6, 8, 10):
        window.add(sample(at_s))
        window.add(sample(at_s, edge="edge2", pid=2, ue1=2 * at_s))
    assert window.user_bytes_per_s("ue1") == pytest.approx(1400)


def test_a_burst_of_orders_is_spread_over_a_whole_window() -> None:
    """Everybody is told at a budget's first step: at 2 s that must not look like going on."""
    window = SpendingWindow()
    window.add(sample(0, ue1=0))
    told = {"order_bytes": 4000, "move_bytes": 2000}
    window.add(sample(2, ue1=4).model_copy(update=told))
    assert window.measured({"ue1"}).other_bytes_per_s == pytest.approx(1000 + 6000 / 20)
    window.add(sample(20, ue1=40).model_copy(update=told))
    assert window.measured({"ue1"}).other_bytes_per_s == pytest.approx(1000 + 6000 / 20)


def test_a_restart_begins_anew_and_old_samples_go() -> None:
    window = SpendingWindow()
    window.add(sample(0, ue1=100))
    window.add(sample(2, pid=9, ue1=1))
    assert window.edge_rates("edge1") is None
    for at_s in range(4, 60, 2):
        window.add(sample(at_s, pid=9, ue1=at_s))
    rates = window.edge_rates("edge1")
    assert rates is not None and rates["window_s"] <= WINDOW_NS / 1e9


def test_a_change_settles_before_it_is_measured() -> None:
    window = SpendingWindow()
    window.add(sample(0, ue1=0))
    window.changed(2 * SECOND_NS)
    window.add(sample(2 + SETTLED_NS / 1e9 - 1, ue1=9))
    assert window.measured({"ue1"}).bytes_per_s is None
    window.add(sample(2 + SETTLED_NS / 1e9, ue1=10))
    assert window.measured({"ue1"}).bytes_per_s is not None


def test_a_silent_edge_is_named_until_it_answers() -> None:
    window = SpendingWindow()
    window.silent("edge1")
    assert window.document()["unreachable"] == ["edge1"]
    window.add(sample(1, ue1=1))
    assert window.document()["unreachable"] == []


def test_a_budget_below_everybodys_longest_period_is_said_to_be_too_little() -> None:
    payer = Payer("ue1", 800.0, own_ms=500, period_ms=LONGEST_MS)
    longest = {"ue1": Setting(LONGEST_MS)}
    measured = Measured(None, 900.0, None)
    said = _too_little(TwinBudget(bytes_per_s=500), [payer], longest, measured)
    assert said is not None and "about 1000 is least" in said
    assert _too_little(TwinBudget(bytes_per_s=1000), [payer], longest, measured) is None
    shorter = {"ue1": Setting(LONGEST_MS - 10)}
    assert _too_little(TwinBudget(bytes_per_s=500), [payer], shorter, measured) is None
