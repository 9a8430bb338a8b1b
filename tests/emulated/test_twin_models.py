"""Twin models on the wire: push, poll and batch differ in packets; settings come by packet."""

from __future__ import annotations

import socket
import time
from typing import Any

import numpy as np
import orjson
import pytest

from controller.contracts.addressing import AGENT_UDP_PORT, session_ip
from tests.emulated.test_twin_path import PERIOD_MS, TwinPath, path
from tests.waiting import wait_until
from topologies.namespaces import socket_in

__all__ = ["path"]


def configured(path: TwinPath, *overrides: dict[str, Any]) -> None:
    path.local("configure", overrides=list(overrides))


def both(path: TwinPath, name: str) -> int:
    """A count of the agents' process."""
    return int(path.agents("status")["counts"].get(name, 0))


def mean_interval_ms(path: TwinPath, ue_id: str, count: int) -> float:
    """Of the next `count` inter-arrivals at the local controller."""
    before = path.local("status")["datagrams"]
    wait_until(lambda: path.local("status")["datagrams"] >= before + 2 * count + 4, 20)
    intervals = path.local("inter_arrivals")[ue_id][-count:]
    return float(np.mean(intervals))


def document(path: TwinPath, ue_id: str) -> dict[str, Any]:
    (last,) = path.local("history", ue_id=ue_id, last=1)
    return dict(last)


def test_a_twin_stands_within_half_a_second_of_attaching(path: TwinPath) -> None:
    path.local("attached", ue_id="ue1", cell_id="far")
    wait_until(lambda: "ue1" not in {t["id"] for t in path.local("twins")}, 3)
    # The longest period there is: only asking makes a twin in time.
    path.agents("configure", ue_id="ue1", report_period_ms=60_000)
    try:
        started_s = time.monotonic()
        path.local("attached", ue_id="ue1", cell_id="ap1")
        wait_until(lambda: "ue1" in {t["id"] for t in path.local("twins")}, 3)
        assert time.monotonic() - started_s < 0.5
    finally:
        path.agents("configure", ue_id="ue1", report_period_ms=PERIOD_MS)


def test_a_period_by_type_is_on_the_wire_within_five_percent(path: TwinPath) -> None:
    try:
        for period_ms in (100, 400):
            configured(path, {"type": "phone", "changes": {"period_ms": period_ms}})
            wait_until(lambda p=period_ms: document(path, "ue2")["period_ms"] == p, 5)  # type: ignore[misc]
            assert mean_interval_ms(path, "ue2", 12) == pytest.approx(period_ms, rel=0.05)
    finally:
        configured(path)


def test_push_poll_and_batch_differ_in_packets(path: TwinPath) -> None:
    try:
        configured(path, {"ue_id": "ue2", "changes": {"upload": "poll"}})
        wait_until(lambda: both(path, "polled") >= 5, 5)
        polls, orders = both(path, "polled"), path.local("status")["orders"]["polls"]
        assert mean_interval_ms(path, "ue2", 10) == pytest.approx(PERIOD_MS, rel=0.05)
        assert both(path, "polled") - polls >= 10  # each of them was asked for by a packet
        assert path.local("status")["orders"]["polls"] - orders >= 10

        batch = {"upload": "batch", "batch_reports": 4}
        configured(path, {"ue_id": "ue2", "changes": batch})
        wait_until(lambda: document(path, "ue2").get("batch_reports", 1) == 4, 5)
        before, polled = path.agents("status")["counts"], both(path, "polled")
        versions = path.local("twin", ue_id="ue2")["version"]
        wait_until(lambda: path.local("twin", ue_id="ue2")["version"] >= versions + 16, 10)
        after = path.agents("status")["counts"]
        reports, sent = (after[name] - before[name] for name in ("reports", "sent"))
        assert reports / sent > 1.4  # ue1 still sends each of its own
        assert both(path, "polled") == polled
        newest = path.local("history", ue_id="ue2", last=8)
        sequences = [entry["sequence"] for entry in newest]
        assert sequences == list(range(sequences[0], sequences[0] + 8))  # none of a batch is lost
    finally:
        configured(path)
        wait_until(lambda: document(path, "ue2").get("batch_reports", 1) == 1, 5)


def test_precision_and_attribute_periods_change_the_bytes(path: TwinPath) -> None:
    exact = len(orjson.dumps(document(path, "ue1")))
    coarse = {
        "precision": {"services.demand_kbps": 1000, "services.goodput_kbps": 1000},
        "attribute_period_ms": {"user.location_m": 60_000, "user.speed_mps": 60_000},
        "predicted": {"services.demand_kbps": False},
        "history_length": 3,
    }
    try:
        configured(path, {"type": "phone", "changes": coarse})
        wait_until(lambda: "position_m" not in document(path, "ue1"), 5)
        report = document(path, "ue1")
        assert all(flow["demand_kbps"] % 1000 == 0 for flow in report["flows"])
        assert len(orjson.dumps(report)) < exact - 20
        twin = path.local("twin", ue_id="ue1")
        assert twin["user"]["location_m"]["value"] == [10.0, 20.0]  # as last told
        assert len(path.local("history", ue_id="ue1", last=100)) == 3
        wait_until(
            lambda: (
                "predicted"
                not in path.local("twin", ue_id="ue1")["services"]["stream"]["down"]["demand_kbps"]
            ),
            3,
        )
    finally:
        configured(path)


def test_a_slices_twin_is_in_aggregates_as_often_and_exactly_as_its_model_says(
    path: TwinPath,
) -> None:
    """ap1's aggregates at the centre: slice 1 in each fourth, rounded; slice 2 as ever."""
    changes = {"period_ms": 4 * PERIOD_MS, "precision": {"demand_kbps": 500}}
    names = {s.slice_id: str(s.s_nssai) for s in path.inventory.slices}
    before = path.local("status")
    try:
        configured(path, {"slice_twin": names[1], "changes": changes})
        start = len(path.centre.of("ap1")) + 1
        wait_until(lambda: len(path.centre.of("ap1")) >= start + 9, 10)
        seen = path.centre.of("ap1")[start : start + 9]
        assert all([d.slice_id for d in a.slices if d.slice_id == 2] for a in seen)
        due = [a for a in seen if any(d.slice_id == 1 for d in a.slices)]
        assert [a.window % 4 for a in due] == [0] * len(due)
        assert 2 <= len(due) <= 3
        demands = [d.demand_kbps for a in due for d in a.slices if d.slice_id == 1]
        assert all(kbps > 0 and kbps % 500 == 0 for kbps in demands)
        sizes = [len(a.model_dump_json()) for a in seen]
        assert min(sizes) < 0.8 * max(sizes)
    finally:
        configured(path)
    assert path.local("status")["accepted"] > before["accepted"]


def test_what_twins_cost_is_what_was_received(path: TwinPath) -> None:
    first = path.local("spending")
    wait_until(
        lambda: path.local("spending")["report_datagrams"] >= first["report_datagrams"] + 12, 5
    )
    last, status = path.local("spending"), path.local("status")
    grown = {u["ue_id"]: u for u in last["users"]}
    before = {u["ue_id"]: u for u in first["users"]}
    by_user = sum(grown[u]["wire_bytes"] - before[u]["wire_bytes"] for u in ("ue1", "ue2"))
    assert by_user == last["report_bytes"] - first["report_bytes"]
    assert status["bytes_on_wire"] >= last["report_bytes"] > 0
    assert last["aggregate_bytes"] > first["aggregate_bytes"]
    assert last["processor_s"] > first["processor_s"]
    newest = document(path, "ue1")
    assert by_user > 6 * len(orjson.dumps(newest))
    assert grown["ue1"]["demand_kbps"]["1"] > 0


def test_orders_of_anybody_else_change_nothing(path: TwinPath) -> None:
    refused = both(path, "refused_orders")
    order = {"settings": {"version": 9, "period_ms": 60_000, "upload": "push"}}
    with socket_in(f"/proc/{path.pair.server_pid}/ns/net", socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(orjson.dumps(order), (session_ip(0, 0), AGENT_UDP_PORT))
    wait_until(lambda: both(path, "refused_orders") > refused, 3)
    assert document(path, "ue1")["period_ms"] == PERIOD_MS
