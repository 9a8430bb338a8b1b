"""The gate "rehearse before applying": an xApp that asks for it, on a real RIC process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from controller.contracts import rpc
from tests.ric_bench import RunningRic, write_xapp
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

STARVING = """
VIDEO = {"sst": 1, "sd": "000001"}
call("POST", f"xapps/{name}/ready")
with call("GET", "stream?kind=cell") as stream:
    for count, line in enumerate(stream):
        event = json.loads(line)
        if event["id"] != "ap1":
            continue
        low, high = (8000, 20000) if config["kind"] == "harmless" else (500, 5000)
        answer = json.load(call("POST", "decisions", {
            "trace_id": event["trace_id"], "xapp": name, "action": "reserve",
            "target": {"cell_id": "ap1", "s_nssai": VIDEO},
            "parameters": {"min_kbps": low + count % 2, "max_kbps": high},
        }))
        print("verdict", answer["verdict"], answer["reason"], flush=True)
"""


def rehearsing(rehearse: dict[str, Any] | None, kind: str) -> Any:
    def prepare(document: dict[str, Any]) -> None:
        document["holon"]["config"] = {"kind": kind}
        if rehearse is not None:
            document["holon"]["rehearse"] = rehearse

    return prepare


def report(ric: RunningRic) -> None:
    window = time.time_ns() // 500_000_000 - 1
    ric.send_aggregate(window=window, period_ms=500)
    idle = {"slice_id": 1, "users": 1, "demand_kbps": 100.0, "goodput_kbps": 100.0}
    slices = [{**idle, "loss_ratio": 0.0, "owd_p95_ms": 1.0}]
    ric.send_aggregate(1, edge="edge2", cell_id="ap2", window=window, period_ms=500, slices=slices)


def records(ric: RunningRic, name: str) -> list[dict[str, Any]]:
    report(ric)
    found: list[dict[str, Any]] = ric.get("decisions", xapp=name)
    return found


def deploy(ric: RunningRic, folder: Path) -> None:
    """Once both cells have reported: before, nothing can be rehearsed."""

    def is_fork_possible() -> bool:
        report(ric)
        answer = ric.call("POST", "whatif", json={"strategy": {"kind": "hold"}})
        return answer.status_code == 201

    wait_until(is_fork_possible, 5)
    answer = ric.call("POST", "xapps", json={"descriptor_dir": str(folder)})
    assert answer.status_code == 201, answer.text


def undeploy(ric: RunningRic, name: str) -> None:
    assert ric.call("DELETE", f"xapps/{name}").status_code == 200


def test_a_plan_that_a_fork_predicts_to_be_worse_is_refused(
    ric: RunningRic, tmp_path: Path
) -> None:
    patient = {"latency_budget_ms": 1000, "horizon_s": 2}
    deploy(ric, write_xapp(tmp_path / "starving", STARVING, rehearsing(patient, "starving")))

    def refused() -> bool:
        return any("rehearsed" in r["reason"] for r in records(ric, "starving"))

    wait_until(refused, 20)
    record = next(r for r in records(ric, "starving") if "rehearsed" in r["reason"])
    assert record["verdict"] == "rejected"
    assert record["hops_ns"]["rehearsed"] >= record["hops_ns"]["received"]
    gate = rpc.call(ric.run.ric_socket, "whatif")["rehearsals"]
    assert gate["refused"] >= 1
    assert gate["max_ms"] > 0
    undeploy(ric, "starving")


def test_harmless_plans_pass_and_xapps_without_the_wish_are_not_rehearsed(
    ric: RunningRic, tmp_path: Path
) -> None:
    patient = {"latency_budget_ms": 1000}
    deploy(ric, write_xapp(tmp_path / "harmless", STARVING, rehearsing(patient, "harmless")))

    def passed() -> bool:
        records(ric, "harmless")
        return rpc.call(ric.run.ric_socket, "whatif")["rehearsals"].get("passed", 0) >= 1

    wait_until(passed, 20)
    mine = records(ric, "harmless")
    assert any(r["verdict"] == "applied" and "rehearsed" in r["hops_ns"] for r in mine)
    assert not any("rehearsed over" in r["reason"] for r in mine)
    undeploy(ric, "harmless")
    deploy(ric, write_xapp(tmp_path / "careless", STARVING, rehearsing(None, "starving")))
    wait_until(lambda: bool(records(ric, "careless")), 10)
    record = records(ric, "careless")[0]
    assert "rehearsed" not in record["hops_ns"]
    undeploy(ric, "careless")
