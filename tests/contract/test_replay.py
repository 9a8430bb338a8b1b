"""A recording replayed: the API, the stream and the guard as live, and nothing enforced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pa_parquet
import pytest
import requests
from holon_xapp import CellEvent, PlannedReservation, ReservationPlan, Settings, Xapp

from controller.whatif.recording import cell_events
from tests.conftest import REPOSITORY, free_port
from tests.ric_inventory import CAPACITY_KBPS
from tests.sample_recording import WINDOWS, write_recording
from tests.waiting import wait_until

SPEED = 8
SHARED = ("id", "trace_id", "window", "period_ms", "capacity_kbps", "reservable_kbps", "slices")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    write_recording(folder)
    return folder


def started(recording: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "xapps" / "sdk")])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "controller.replay", str(recording), "--out", str(out)]
        + ["--speed", str(SPEED), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa_parquet.read_table(out / "decisions.parquet").to_pylist()
    return found


def asked(out: Path) -> list[tuple[Any, ...]]:
    names = ("trace_id", "action", "target", "parameters", "verdict", "reason")
    return sorted(tuple(row[name] for name in names) for row in rows(out))


def test_slice_planner_decides_the_same_on_every_replay(recording: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "first", tmp_path / "second"]
    for out in outs:
        process = started(recording, out, "--xapp", "slice-planner", "--port", "0")
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    first, second = (asked(out) for out in outs)
    assert len(first) >= 10
    assert first == second
    applied = [row for row in rows(outs[0]) if row["verdict"] == "applied"]
    assert applied
    assert all(row["reason"].startswith("replayed") for row in applied)
    assert {row["effect"] for row in rows(outs[0])} == {"not_exercised"}
    document = json.loads((outs[0] / "replay.json").read_text())
    assert document["windows"] == 2 * WINDOWS
    assert document["refused_windows"] == {}
    assert document["decisions"]["applied"] == len(applied)
    assert document["as_recorded"]["only_replayed"] == len(first)


@contextmanager
def attached(recording: Path, out: Path) -> Iterator[tuple[Xapp, subprocess.Popen[str]]]:
    """The SDK as an outsider's program has it: the recording plays once it subscribes."""
    port = free_port()
    process = started(recording, out, "--port", str(port))
    token = out / "run" / "token"
    try:
        wait_until(lambda: token.exists() and answers(port), 20)
        settings = Settings(f"http://127.0.0.1:{port}", token.read_text().strip(), "operator", {})
        xapp = Xapp(settings)
        yield xapp, process
        xapp.close()
    finally:
        process.terminate()
        process.communicate(timeout=15)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/api/v1/health", timeout=2).ok
    except requests.ConnectionError:
        return False


def test_decisions_are_guarded_and_the_network_is_what_it_was(
    recording: Path, tmp_path: Path
) -> None:
    seen = 0
    others: list[dict[str, Any]] = []
    with attached(recording, tmp_path / "out") as (xapp, _):
        url, session = xapp.settings.url, requests.Session()
        session.headers["Authorization"] = f"Bearer {xapp.settings.token}"

        def get(path: str) -> requests.Response:
            return session.get(f"{url}/api/v1/{path}", timeout=5)

        assert get("health").json()["replayed"] is True

        def read_decisions() -> None:
            with session.get(
                f"{url}/api/v1/stream?kind=decision", stream=True, timeout=20
            ) as lines:
                others.extend(json.loads(line) for line in lines.iter_lines())

        for event in xapp.cells():
            if not seen:
                reading = threading.Thread(target=read_decisions)
                reading.start()
                check_decisions(xapp, event)
            seen += 1
            if seen == WINDOWS:  # the middle, after the handover
                break
        assert get("ues").json()[0]["cell_id"] == "ap2"  # it was handed over in between
        assert get("twins/users/ue1").status_code == 404
        refused = session.post(
            f"{url}/api/v1/slices",
            json={"name": "late", "sla": {"guaranteed_mbps": 1}, "users": ["ue1"]},
            timeout=5,
        )
        assert refused.status_code in (409, 422), refused.text
    reading.join(10)
    assert [d["xapp"] for d in others if d["id"] in ("d-handover", "d-plan")] == [
        "a3-handover",
        "other-planner",
    ]


def check_decisions(xapp: Xapp, event: CellEvent) -> None:
    def plan(min_kbps: int) -> ReservationPlan:
        video = event.slices[0]
        wish = PlannedReservation(video.s_nssai, video.traffic_class, min_kbps, CAPACITY_KBPS)
        return ReservationPlan.answering(event, (wish,), event.received_at_ns)

    passed = xapp.decide(plan(7000))
    assert (passed.verdict, passed.reason.split(":")[0]) == ("applied", "replayed")
    jumping = xapp.decide(plan(17_500))
    assert jumping.verdict == "rejected"
    assert "6000 -> 17500" in jumping.reason


def test_cell_documents_are_as_recorded(recording: Path, tmp_path: Path) -> None:
    table = pa_parquet.read_table(recording / "twins.parquet").to_pylist()
    links_kbps = dict.fromkeys(("ap1", "ap2"), float(CAPACITY_KBPS))
    wanted = list(cell_events(table, links_kbps, 0.9))
    seen: list[dict[str, Any]] = []
    with attached(recording, tmp_path / "out") as (xapp, _):
        for line in xapp._stream_lines("cell", None, 0):
            seen.append(json.loads(line))
            if len(seen) == len(wanted):
                break
    assert [{k: e[k] for k in SHARED} for e in seen] == [{k: e[k] for k in SHARED} for e in wanted]
    for event, recorded in zip(seen, wanted, strict=True):
        age_ns = event["received_at_ns"] - event["completed_at_ns"]
        assert age_ns == recorded["received_at_ns"] - recorded["completed_at_ns"]


def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    process = started(tmp_path / "empty", tmp_path / "out", "--port", "0")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output.count("\n") == 1
    assert "has no inventory.json" in output
