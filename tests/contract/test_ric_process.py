"""The RIC's process as a whole: a run from start to end, and why one does not start."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from controller.contracts import rpc
from controller.contracts.run_folder import RunFolder
from tests.ric_bench import LISTENING, running_ric, start_ric, write_run, write_xapp
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PLANNING = """
with call("GET", "stream?kind=cell") as stream:
    for line in stream:
        event = json.loads(line)
        decision = {
            "trace_id": event["trace_id"], "xapp": name, "action": "reserve",
            "target": {"cell_id": event["id"]},
            "parameters": {"reservations": [
                {"s_nssai": s["s_nssai"], "min_kbps": config["min_kbps"],
                 "max_kbps": s["reservation"]["max_kbps"], "predicted_kbps": 12000.0}
                for s in event["slices"] if s["slice_id"] == 1]},
        }
        print(call("POST", "decisions", decision).read().decode(), flush=True)
"""


def test_a_run_from_start_to_end(namespaces: dict[str, int], tmp_path: Path) -> None:
    """Policy `model`: deploys its xApp, decides with it, flushes, ends in order."""
    folder = write_xapp(tmp_path / "planner", PLANNING)
    xapp = {"name": str(folder), "placement": "centre", "config": {"min_kbps": 12_000}}
    run, inventory = write_run(tmp_path / "run", namespaces, policy="model", xapps=[xapp])
    with running_ric(run, inventory) as running:
        wait_until(lambda: [x["state"] for x in running.get("xapps")] == ["running"], 10)
        pid = running.get("xapps")[0]["pid"]
        wait_until(lambda: running.status()["stream"]["consumers"] == 1, 5)
        sent = running.send_aggregate()
        wait_until(lambda: running.get("decisions", xapp="planner"), 5)
        record = running.get("decisions")[0]
        assert (record["verdict"], record["trace_id"]) == ("applied", sent["trace_id"])
        assert 0 < record["loop_latency_ms"] + 2.0 < 1000
        twin = running.get("twins/cells/ap1")["attributes"]["demand_kbps.1-000001"]
        assert twin["predicted"]["value"] == 12_000
        assert twin["predicted"]["source"] == "planner"
        log = "".join(running.get("xapps/planner/logs")["lines"])
        assert '"forecaster": "exponential_smoothing"' in log
        assert '"min_kbps": 12000' in log
        records = rpc.call(run.ric_socket, "records")
        assert [r["decision_id"] for r in records] == [record["decision_id"]]
        written = rpc.call(run.ric_socket, "flush", out=str(tmp_path / "out"))
        assert sorted(Path(path).name for path in written) == [
            "decisions.csv",
            "decisions.parquet",
            "inventory.json",
            "twins.csv",
            "twins.parquet",
        ]
        stopped_at_s = time.monotonic()
        status, output = running.stop()
        assert status == 0, output
        assert time.monotonic() - stopped_at_s < 3
        assert "ready" in output.splitlines()
        assert not Path(f"/proc/{pid}").exists()
        assert not run.ric_socket.exists()
        events = [line["event"] for line in lines_of(run.results / "audit.jsonl")]
        assert events[:2] == ["xapp deployed", "decision"]
        assert len(lines_of(run.results / "decisions.jsonl")) == 1


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_xapp_of_the_scenario_that_fails_is_one_line_and_an_alarm(
    namespaces: dict[str, int], tmp_path: Path
) -> None:
    folder = write_xapp(tmp_path / "broken", "sys.exit(3)\n")
    run, inventory = write_run(
        tmp_path / "run", namespaces, policy="xapps", xapps=[{"name": str(folder)}]
    )
    with running_ric(run, inventory) as running:
        wait_until(lambda: running.get("health")["alarms"], 10)
        health = running.get("health")
        assert health["status"] == "degraded"
        reason = f"exited with status 3: {last_line(run)}"
        assert health["alarms"] == [f"xApp broken {reason}"]
        _, output = running.stop()
        assert len([ln for ln in output.splitlines() if ln.startswith("ric: ")]) == 1


def last_line(run: RunFolder) -> str:
    return (run.logs / "xapp-broken.log").read_text().splitlines()[-1]


def test_killing_the_ric_takes_its_xapps_along(namespaces: dict[str, int], tmp_path: Path) -> None:
    folder = write_xapp(tmp_path / "listener", LISTENING)
    run, inventory = write_run(
        tmp_path / "run", namespaces, policy="xapps", xapps=[{"name": str(folder)}]
    )
    with running_ric(run, inventory) as running:
        wait_until(lambda: [x["state"] for x in running.get("xapps")] == ["running"], 10)
        pid = running.get("xapps")[0]["pid"]
        running.process.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 5)


def refusal(namespaces: dict[str, int], folder: Path, environment: dict[str, str]) -> str:
    run, inventory = write_run(folder, namespaces)
    starting = start_ric(run, inventory, environment)
    output, _ = starting.process.communicate(timeout=15)
    assert starting.process.returncode == 1, output
    lines = [line for line in output.splitlines() if line.startswith("ric: ")]
    assert len(lines) == 1, output
    return lines[0]


def test_why_it_cannot_start_is_one_line(namespaces: dict[str, int], tmp_path: Path) -> None:
    failure = refusal(namespaces, tmp_path / "a", {"RIC_TEST_START_FAILURE": "no switch"})
    assert failure == "ric: slices cannot be installed: no switch"
    unconfirmed = refusal(namespaces, tmp_path / "b", {"RIC_TEST_UNCONFIRMED": "ap2"})
    assert unconfirmed == "ric: slices are not confirmed by ap2: as told by the test"
    run, inventory = write_run(tmp_path / "c", namespaces)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", inventory.northbound_tcp_port))
        holder.listen()
        starting = start_ric(run, inventory)
        output, _ = starting.process.communicate(timeout=15)
    assert starting.process.returncode == 1
    port = inventory.northbound_tcp_port
    assert output.startswith(f"ric: port {port} of 127.0.0.1 is in use; ")
    assert output.count("\n") == 1
    run.inventory.write_text("{}")
    starting = start_ric(run, inventory)
    output, _ = starting.process.communicate(timeout=15)
    assert starting.process.returncode == 1
    assert output.startswith(f"ric: {run.inventory}: run_id: Field required")
