"""What-if on a RIC's real process: fork, predict, apply through the guard, score."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import requests

from controller.contracts import rpc
from tests.ric_bench import RunningRic
from tests.ric_inventory import VIDEO
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_forks_are_predicted_applied_through_the_guard_and_scored(ric: RunningRic) -> None:
    early = ric.call("POST", "whatif", json={"strategy": {"kind": "hold"}})
    assert early.status_code == 409
    assert "no twin data" in early.json()["error"]
    report_both_cells(ric)
    wait_until(lambda: fork(ric, {"kind": "hold"}).status_code == 201, 5)
    wanted = {"s_nssai": VIDEO, "min_kbps": 7000, "max_kbps": 14000}
    less = fork(ric, {"kind": "reserve", "cells": {"ap1": [wanted]}}).json()["fork_id"]
    ranked = ric.call("POST", "whatif/compare", json={"horizon_s": 1}).json()
    assert len(ranked) == 2
    assert ranked[0]["prediction"]["score"] >= ranked[1]["prediction"]["score"]
    dry_run = {"horizon_s": 1, "dry_run": True}
    rehearsed = ric.call("POST", f"whatif/{less}/apply", json=dry_run).json()
    assert rehearsed["decisions"][0]["reason"] == "dry run: nothing was changed"
    assert rehearsed["decisions"][0]["diff"]
    assert rehearsed["fork"]["state"] == "following"
    assert {r["min_kbps"] for r in ric.get("slices")[0]["reserved"]} == {8000}
    report_both_cells(ric)  # a horizon from now on, not from before the rehearsal
    applied = ric.call("POST", f"whatif/{less}/apply", json={"horizon_s": 1}).json()
    record = applied["decisions"][0]
    assert record["verdict"] == "applied"
    assert record["xapp"] == "what-if"
    held = ric.get("slices")[0]["reserved"]
    assert {r["cell_id"]: r["min_kbps"] for r in held if r["traffic_class"] == "elastic"} == {
        "ap1": 7000,
        "ap2": 8000,
    }
    assert ric.call("POST", f"whatif/{less}/apply", json={}).status_code == 409

    def is_scored() -> bool:
        report_both_cells(ric)
        return bool(ric.get(f"whatif/{less}")["state"] == "scored")

    wait_until(is_scored, 10)
    error = ric.get(f"whatif/{less}")["comparison"]["slices"][0]["error_ratio"]
    assert abs(error["offered_kbps"]) < 0.05
    assert rpc.call(ric.run.ric_socket, "whatif")["applied"][0]["fork_id"] == less
    assert ric.call("DELETE", f"whatif/{less}").status_code == 200
    assert ric.call("GET", f"whatif/{less}").status_code == 404


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ({"kind": "handover", "ue_id": "nobody", "cell_id": "ap1"}, "unknown user"),
        ({"kind": "reserve", "cells": {"moon": [{"min_kbps": 1, "max_kbps": 20_000}]}}, "s_nssai"),
        ({"kind": "magic"}, "kind"),
        ({"kind": "static"}, "static_reservations"),
    ],
)
def test_a_strategy_without_meaning_is_refused_and_no_fork_is_kept(
    ric: RunningRic, strategy: dict[str, Any], words: str
) -> None:
    report_both_cells(ric)
    wait_until(lambda: fork(ric, {"kind": "hold"}).status_code == 201, 5)
    before = len(ric.get("whatif"))
    answer = fork(ric, strategy)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["error"]
    assert len(ric.get("whatif")) == before


def fork(ric: RunningRic, strategy: dict[str, Any]) -> requests.Response:
    return ric.call("POST", "whatif", json={"strategy": strategy})


def report_both_cells(ric: RunningRic) -> None:
    """One aggregate of each cell, in windows of half a second as the network has them."""
    window = time.time_ns() // 500_000_000 - 1
    ric.send_aggregate(window=window, period_ms=500)
    ric.send_aggregate(1, edge="edge2", cell_id="ap2", window=window, period_ms=500)
