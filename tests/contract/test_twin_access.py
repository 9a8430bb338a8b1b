"""Twin model control and access by token through the running RIC's API."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import pytest
import requests

from controller.contracts.run_folder import RunFolder
from tests.ric_bench import RunningRic
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

VIDEO_ID, CONTROL_ID = "1-000001", "2-000002"


def configure(
    ric: RunningRic, target: dict[str, Any], parameters: dict[str, Any], **more: Any
) -> Any:
    body = {
        "trace_id": "t",
        "xapp": f"test-{time.monotonic_ns()}",
        "action": "configure_twin",
        "target": target,
        "parameters": parameters,
        **more,
    }
    return ric.call("POST", "decisions", json=body)


def token(ric: RunningRic, *slices: str) -> dict[str, str]:
    name = f"reader-{time.monotonic_ns()}"
    answer = ric.call("POST", "tokens", json={"name": name, "slices": list(slices)})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def denials(run: RunFolder) -> list[dict[str, Any]]:
    path = run.results / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["event"] == "read denied"]


def test_a_model_is_changed_rehearsed_and_shown(ric: RunningRic) -> None:
    before = ric.get("twin-models/settings/ue1")
    rehearsed = configure(ric, {"ue_id": "ue1"}, {"period_ms": 250}, dry_run=True).json()
    assert rehearsed["diff"]["twin_models"]["ue:ue1"]["after"] == {"period_ms": 250}
    assert ric.get("twin-models/settings/ue1") == before
    assert ric.get("twin-models/overrides") == []
    # Neither edge's local controller knows the op here, so neither confirms: it says so.
    record = configure(ric, {"ue_id": "ue1"}, {"period_ms": 250}).json()
    assert {c["switch"] for c in record["confirmations"]} <= {"edge1", "edge2"}
    assert ric.get("twin-models/settings/ue1")["period_ms"] == 250
    assert json.loads(ric.run.twin_overrides.read_text())[0]["ue_id"] == "ue1"
    assert {m["type"] for m in ric.get("twin-models")} >= {"vehicle", "slice"}


@pytest.mark.parametrize(
    ("target", "parameters", "status"),
    [
        ({"ue_id": "nobody"}, {"period_ms": 100}, 404),
        ({"type": "tank"}, {"period_ms": 100}, 404),
        ({"type": "phone"}, {"precision": {"user.mood": 1}}, 404),
        ({}, {"period_ms": 100}, 422),
        ({"type": "phone", "ue_id": "ue1"}, {"period_ms": 100}, 422),
        ({"type": "phone"}, {"period_ms": 1}, 422),
        ({"type": "phone"}, {}, 422),
        ({"type": "phone"}, {"upload": "batch", "batch_reports": 32, "period_ms": 9000}, 422),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    ric: RunningRic, target: dict[str, Any], parameters: dict[str, Any], status: int
) -> None:
    before = ric.get("twin-models/overrides")
    answer = configure(ric, target, parameters)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    assert ric.get("twin-models/overrides") == before


def test_a_token_reads_its_slices_and_every_denial_is_audited(ric: RunningRic) -> None:
    ric.send_aggregate()
    wait_until(lambda: len(ric.get("twins/cells/ap1")["attributes"]) > 8, 5)
    video = token(ric, VIDEO_ID)
    base = f"{ric.url}/api/v1"

    def read(path: str) -> requests.Response:
        return requests.get(f"{base}/{path}", headers=video, timeout=5)

    assert read(f"twins/slices/{VIDEO_ID}").status_code == 200
    listed = {t["id"] for t in read("twins").json() if t["kind"] == "slice"}
    assert listed == {VIDEO_ID}
    attributes = read("twins/cells/ap1").json()["attributes"]
    assert any(name.endswith(VIDEO_ID) for name in attributes)
    assert not any(name.endswith(CONTROL_ID) for name in attributes)
    before = len(denials(ric.run))
    forbidden = [
        f"twins/slices/{CONTROL_ID}",
        f"twins/slices/{CONTROL_ID}/history?attribute=demand_kbps",
        f"twins/cells/ap1/history?attribute=demand_kbps.{CONTROL_ID}",
        "twins/users/ue2",
        "twins/users/ue2/history",
        f"stream?kind=slice&id={CONTROL_ID}",
        "stream?kind=decision",
    ]
    for path in forbidden:
        answer = read(path)
        assert answer.status_code == 403, path
        assert CONTROL_ID not in answer.json()["hint"]
    assert len(denials(ric.run)) == before + len(forbidden)
    body = {"name": "more", "slices": [CONTROL_ID]}
    answer = requests.post(f"{base}/tokens", headers=video, json=body, timeout=5)
    assert answer.status_code == 403


def test_a_stream_carries_only_the_tokens_slices(ric: RunningRic) -> None:
    answer = requests.get(
        f"{ric.url}/api/v1/stream", headers=token(ric, VIDEO_ID), stream=True, timeout=10
    )
    seen: list[dict[str, Any]] = []
    reader = threading.Thread(
        target=lambda: seen.append(json.loads(next(answer.iter_lines()))), daemon=True
    )
    reader.start()
    wait_until(lambda: (ric.send_aggregate(), bool(seen))[1], 5)
    answer.close()
    assert [s["slice_id"] for s in seen[0]["slices"]] == [1]
