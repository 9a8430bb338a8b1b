"""The API of a slice's life on a running RIC: statuses, documents, and who follows.

Only the switches are replaced (tests/in_memory_enforcer.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from controller.contracts.live_slices import current_inventory
from tests.ric_bench import RunningRic
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SPEC: dict[str, Any] = {
    "name": "gaming",
    "s_nssai": {"sst": 1, "sd": "0000aa"},
    "sla": {"guaranteed_mbps": 1},
    "users": ["ue1"],
}


@pytest.fixture
def gaming(ric: RunningRic) -> Iterator[dict[str, Any]]:
    answer = ric.call("POST", "slices", json=SPEC)
    assert answer.status_code == 201, answer.text
    yield answer.json()
    ric.call("DELETE", "slices/gaming")


def names(ric: RunningRic) -> set[str]:
    return {item["name"] for item in ric.get("slices")}


def test_created_it_is_in_lists_twins_stream_and_run_folder(
    ric: RunningRic, gaming: dict[str, Any]
) -> None:
    assert {"slice", "admission", "confirmations", "diff", "elapsed_ms"} <= gaming.keys()
    shown = ric.get("slices/1-0000aa")
    assert (shown["name"], shown["users"], shown["cells"]) == ("gaming", ["ue1"], ["ap1", "ap2"])
    sessions = next(u for u in ric.get("ues") if u["ue_id"] == "ue1")["sessions"]
    assert (SPEC["s_nssai"], "10.3.1.1") in [(s["s_nssai"], s["ip"]) for s in sessions]
    assert "1-0000aa" in {t["id"] for t in ric.get("twins")}
    assert ric.get("twins/slices/1-0000aa")["attributes"]["reserved_kbps"]["value"] == 2000
    assert [s.name for s in current_inventory(ric.run).slices][-1] == "gaming"
    with ric.session.get(f"{ric.url}/api/v1/stream?kind=cell", stream=True, timeout=10) as stream:
        ric.send_aggregate()
        event = json.loads(next(stream.iter_lines()))
    assert 3 in {item["slice_id"] for item in event["slices"]}


def test_terminated_it_is_gone_everywhere(ric: RunningRic, gaming: dict[str, Any]) -> None:
    assert ric.call("DELETE", "slices/gaming").status_code == 200
    assert names(ric) == {"video", "control"}
    assert "1-0000aa" not in {t["id"] for t in ric.get("twins")}
    wait_until(lambda: "gaming" not in {s.name for s in current_inventory(ric.run).slices}, 5)
    cell = ric.get("twins/cells/ap1")["attributes"]
    assert not [name for name in cell if name.endswith(".1-0000aa")]
    again = ric.call("DELETE", "slices/gaming")
    assert again.status_code == 404 and "living: video, control" in again.json()["error"]


def test_changed_and_covered(ric: RunningRic, gaming: dict[str, Any]) -> None:
    changes = {"sla": {"guaranteed_mbps": 2}, "add_users": ["ue3"]}
    assert ric.call("PATCH", "slices/gaming", json=changes).status_code == 200
    assert {r["min_kbps"] for r in ric.get("slices/gaming")["reserved"]} == {2000}
    assert ric.get("slices/gaming")["users"] == ["ue1", "ue3"]
    assert ric.call("DELETE", "slices/gaming/cells/ap2").status_code == 200
    assert ric.get("slices/gaming")["cells"] == ["ap1"]
    answer = ric.call("PUT", "slices/gaming/cells/ap2?min_mbps=0.5")
    assert answer.status_code == 200, answer.text
    held = {r["cell_id"]: r["min_kbps"] for r in ric.get("slices/gaming")["reserved"]}
    assert held == {"ap1": 2000, "ap2": 500}


def test_dry_run_answers_with_numbers_and_changes_nothing(ric: RunningRic) -> None:
    answer = ric.call("POST", "slices?dry_run=true", json=SPEC)
    assert answer.status_code == 200 and answer.json()["dry_run"]
    room = next(r for r in answer.json()["admission"] if r["link"] == "ap1")
    assert (room["asked_kbps"], room["reservable_kbps"], room["fits"]) == (1000, 18_000, True)
    assert names(ric) == {"video", "control"}


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"name": "video"}, 409, "named video"),
        ({"sla": {"guaranteed_mbps": 17}}, 409, "ap1: asked 17.0 Mbit/s, 8.0 left of 18.0"),
        ({"slice_id": 1}, 409, "addresses 10.1.0.0/16) is video's"),
        ({"s_nssai": {"sst": 1, "sd": "000001"}}, 409, "S-NSSAI 1-000001 is slice video's"),
        ({"reservations": [{"access_point": "ap1", "min_mbps": -1}]}, 422, "min_mbps"),
        (
            {"reservations": [{"access_point": "ap1", "min_mbps": 2, "max_mbps": 1}]},
            422,
            "min_mbps 2 is above max_mbps 1",
        ),
        ({"reservations": [{"access_point": "ap9", "min_mbps": 1}]}, 404, "unknown cell 'ap9'"),
        ({"users": ["nobody"]}, 404, "unknown user 'nobody'"),
        ({"cells": ["ap9"]}, 404, "unknown cell 'ap9'"),
        ({"sla": {"guaranteed_mbps": -1}}, 422, "guaranteed_mbps"),
        ({"slice_id": 12}, 422, "reserved"),
    ],
)
def test_bad_input_is_refused_with_the_reason(
    ric: RunningRic, changes: dict[str, Any], status: int, words: str
) -> None:
    before = ric.get("slices")
    answer = ric.call("POST", "slices", json={**SPEC, **changes})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert ric.get("slices") == before


def test_more_slices_than_code_points_are_refused_and_all_go_again(ric: RunningRic) -> None:
    before = ric.get("slices")
    made = []
    try:
        for number in range(20):
            named = {"name": f"s{number}", "s_nssai": {"sst": 9, "sd": f"{number:06x}"}}
            answer = ric.call("POST", "slices", json={**SPEC, **named, "reservations": []})
            if answer.status_code != 201:
                break
            made.append(named["name"])
        assert answer.status_code == 409
        assert "all 13 slices that the DSCP can name are in use" in answer.json()["error"]
        assert len(ric.get("slices")) == 13
    finally:
        for name in made:
            assert ric.call("DELETE", f"slices/{name}").status_code == 200
    assert ric.get("slices") == before
