"""History, rows and the shared data layer through the running RIC's API, by token."""

from __future__ import annotations

import json
import time
from typing import Any

import holon_xapp
import pytest
import requests

from tests.contract.test_twin_access import CONTROL_ID, VIDEO_ID, denials, pytestmark, token
from tests.ric_bench import Neighbours, RunningRic
from tests.ric_process import DEMAND_KBPS
from tests.sample_reports import sample_flow, sample_report
from tests.waiting import wait_until

__all__ = ["pytestmark"]

DEMAND = "services.stream.down.demand_kbps"
FOREIGN = "services.commands.down.demand_kbps"


@pytest.fixture(scope="module")
def at_edge1(ric: RunningRic) -> None:
    """ue3, which has a session in both slices, is where a local controller answers."""
    body = {
        "trace_id": "t",
        "xapp": "test-move",
        "action": "handover",
        "target": {"ue_id": "ue3"},
        "parameters": {"cell_id": "ap1"},
    }
    assert ric.call("POST", "decisions", json=body).json()["verdict"] == "applied"


@pytest.fixture
def reports(neighbours: Neighbours, at_edge1: None) -> list[dict[str, Any]]:
    """Five of ue3."""
    found = [
        sample_report(
            window,
            ue_id="ue3",
            flows=[
                sample_flow(demand_kbps=float(window)),
                sample_flow(service="commands", slice_id=2, demand_kbps=7.0),
            ],
        ).model_dump(mode="json")
        for window in range(4000, 4005)
    ]
    neighbours.reports["ue3"] = found
    return found


def read(ric: RunningRic, headers: dict[str, str], path: str) -> requests.Response:
    return requests.get(f"{ric.url}/api/v1/{path}", headers=headers, timeout=5)


def test_a_slices_twin_matches_the_switch_counters(ric: RunningRic) -> None:
    """What the switch counts is 11 Mbit/s; the twin says it, its history and its power too."""
    ric.send_aggregate()
    path = f"twins/slices/{VIDEO_ID}"
    wait_until(lambda: "power_w" in ric.get(path)["attributes"], 5)

    def is_recorded() -> bool:
        """Nothing is, until the switch was read twice."""
        ric.send_aggregate()
        found = ric.call("GET", f"{path}/history?attribute=arrived_kbps")
        return found.status_code == 200 and len(found.json()) > 2

    wait_until(is_recorded, 10)
    attributes = ric.get(path)["attributes"]
    assert attributes["arrived_kbps.ap1"]["value"] == pytest.approx(DEMAND_KBPS, rel=0.01)
    assert attributes["arrived_kbps"]["source"] == "switch counters"
    assert attributes["utilisation_ratio"]["value"] == pytest.approx(DEMAND_KBPS / 20_000, rel=0.02)
    for point in history(ric, "arrived_kbps"):
        assert point["value"] == pytest.approx(DEMAND_KBPS, rel=0.01)
    (mean,) = history(ric, "arrived_kbps", aggregate="mean", since="1m")
    assert mean["value"] == pytest.approx(DEMAND_KBPS, rel=0.01)
    assert mean["samples"] > 2
    strategy = attributes["strategy.reservation"]["value"]
    assert strategy == {"method": "the scenario's fixed split"}
    wait_until(lambda: "quantiles" in predicted(ric.get(path)), 5)


def predicted(twin: dict[str, Any]) -> dict[str, Any]:
    return dict(twin["attributes"]["demand_kbps.ap1"].get("predicted", {}))


def history(ric: RunningRic, attribute: str, **asked: Any) -> Any:
    return ric.get(f"twins/slices/{VIDEO_ID}/history", attribute=attribute, **asked)


def test_a_users_history_is_aggregated_at_the_edge(
    ric: RunningRic, reports: list[dict[str, Any]]
) -> None:
    path = "twins/users/ue3/history"
    points = ric.get(path, attribute=DEMAND)
    assert [p["value"] for p in points] == [4000, 4001, 4002, 4003, 4004]
    (greatest,) = ric.get(path, attribute=DEMAND, aggregate="max")
    assert (greatest["value"], greatest["samples"]) == (4004, 5)
    steps = ric.get(path, attribute=DEMAND, aggregate="mean", every="1s")
    assert len(steps) == 3
    for wrong in ("aggregate=median", "every=1s", "since=yesterday"):
        answer = ric.call("GET", f"{path}?attribute={DEMAND}&{wrong}")
        assert answer.status_code == 422, wrong
    assert ric.call("GET", f"{path}?attribute=services.none.down.x").status_code == 404


def test_histories_and_rows_are_the_tokens_slices_only(
    ric: RunningRic, reports: list[dict[str, Any]]
) -> None:
    ric.send_aggregate()
    video = token(ric, VIDEO_ID)
    assert len(read(ric, video, f"twins/users/ue3/history?attribute={DEMAND}").json()) == 5
    before = len(denials(ric.run))
    forbidden = [
        f"twins/users/ue3/history?attribute={FOREIGN}",
        "twins/users/ue3/history?attribute=user.qoe_mos",
        f"twins/users/ue2/history?attribute={DEMAND}",
        f"twins/slices/{CONTROL_ID}/history?attribute=power_w",
        "whatif",
        "xapps/another/logs",
    ]
    for path in forbidden:
        assert read(ric, video, path).status_code == 403, path
    assert len(denials(ric.run)) == before + len(forbidden)
    for table in ("users", "slices"):
        rows = read(ric, video, f"twins/rows/{table}").json()
        assert {f"{r['sst']}-{r['sd']}" for r in rows} == {VIDEO_ID}
    everything = ric.get("twins/rows/users")
    assert {f"{r['sst']}-{r['sd']}" for r in everything} == {VIDEO_ID, CONTROL_ID}
    since_ns = reports[-1]["measured_at_ns"]
    assert len(ric.get("twins/rows/users", since=str(since_ns))) == 2


def test_an_attribute_for_the_operator_alone_is_in_no_history(
    ric: RunningRic, reports: list[dict[str, Any]]
) -> None:
    video = token(ric, VIDEO_ID)
    hide = {"readers": {"services.demand_kbps": "operator"}}
    show = {"readers": {"services.demand_kbps": "slice"}}
    body = {"trace_id": "t", "action": "configure_twin", "target": {"ue_id": "ue3"}}
    for parameters, status in ((hide, 403), (show, 200)):
        decided = {**body, "xapp": f"x-{time.monotonic_ns()}", "parameters": parameters}
        assert ric.call("POST", "decisions", json=decided).status_code == 200
        asked = read(ric, video, f"twins/users/ue3/history?attribute={DEMAND}")
        assert asked.status_code == status
        (row, *_) = read(ric, video, "twins/rows/users").json()
        assert (row["demand_kbps"] is None) == (status == 403)


def test_twins_and_strategies_are_published_where_sdl_programs_look(ric: RunningRic) -> None:
    ric.send_aggregate()
    secret = ric.session.headers["Authorization"].split()[1]  # type: ignore[union-attr]
    sdl = holon_xapp.Sdl(holon_xapp.Settings(ric.url, str(secret), "operator"))
    key = f"slice/{VIDEO_ID}"
    wait_until(lambda: key in sdl.get("holon.twins", key), 5)
    document = json.loads(sdl.get("holon.twins", key)[key])
    assert document["attributes"]["demand_kbps"]["value"] == 11_000
    assert "cell/ap1" in sdl.find_keys("holon.twins", "cell/*")
    assert json.loads(sdl.get("holon.strategy", VIDEO_ID)[VIDEO_ID])["reservation"]
    heard: list[str] = []
    sdl.subscribe_channel("holon.twins", lambda _, ids: heard.extend(ids), "cell")
    wait_until(lambda: (ric.send_aggregate(), sdl.handle_events(), "ap1" in heard)[2], 8)
    sdl.close()


def test_the_layer_is_closed_to_tokens_without_its_scope(ric: RunningRic) -> None:
    before = len(denials(ric.run))
    body = {"ns": "holon.twins", "keys": [f"slice/{VIDEO_ID}"]}
    answer = requests.post(
        f"{ric.url}/api/v1/sdl/get", headers=token(ric, VIDEO_ID), json=body, timeout=5
    )
    assert answer.status_code == 403
    assert len(denials(ric.run)) == before + 1
    assert ric.call("POST", "sdl/explode", json=body).status_code == 404
    assert ric.call("POST", "sdl/set_if", json=body).status_code == 422
    bad = {"ns": "n", "values": {"k": "not base64!"}}
    assert ric.call("POST", "sdl/set", json=bad).status_code == 422
