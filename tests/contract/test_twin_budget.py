"""Twin budget, representatives and slices' twin models through the running RIC's API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from controller.contracts.run_folder import RunFolder
from tests.contract.test_twin_access import CONTROL_ID, VIDEO_ID, configure, denials, token
from tests.ric_bench import RunningRic, running_ric
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture(autouse=True)
def nothing_left(ric: RunningRic) -> Iterator[None]:
    yield
    if ric.process.poll() is not None:
        return
    for scope in ({"type": "slice"}, {"slice_twin": VIDEO_ID}, {"ue_id": "ue1"}):
        configure(ric, scope, {"reset": True})
    ric.call("DELETE", "twin-budget")
    ric.call("DELETE", "twin-representatives")


def audited(run: RunFolder, event: str) -> list[dict[str, Any]]:
    lines = (run.results / "audit.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def settings(ric: RunningRic, ue_id: str) -> Any:
    return ric.get(f"twin-models/settings/{ue_id}")


def test_a_budget_lengthens_periods_by_audited_decisions_and_gives_them_back(
    ric: RunningRic,
) -> None:
    asked = {"users": 1, "demand_kbps": 1000.0, "goodput_kbps": 900.0, "loss_ratio": 0.0}
    ric.send_aggregate(slices=[{"slice_id": i, "owd_p95_ms": 5.0, **asked} for i in (1, 2)])
    wait_until(lambda: len(ric.get("twin-budget")["users"]) == 2, 10)
    wait_until(lambda: ric.get("twin-budget")["total"]["bytes_per_s"] > 0, 10)
    answer = ric.call("PUT", "twin-budget", json={"bytes_per_s": 1200})
    assert answer.status_code == 200, answer.text
    wait_until(lambda: settings(ric, "ue1")["period_ms"] > 600, 15)
    # Where demand grows, age costs more.
    assert settings(ric, "ue2")["period_ms"] < settings(ric, "ue1")["period_ms"]
    assert json.loads(ric.run.twin_budget.read_text())["budget"]["bytes_per_s"] == 1200
    mine = [d for d in ric.get("decisions") if d["xapp"] == "twin-budget"]
    assert mine and {d["action"] for d in mine} == {"configure_twin"}
    assert any(line["caller"] == "twin-budget" for line in audited(ric.run, "decision"))
    configure(ric, {"ue_id": "ue1"}, {"period_ms": 300})
    assert settings(ric, "ue1")["period_ms"] == 300
    assert ric.call("DELETE", "twin-budget").json()["budget"] is None
    assert settings(ric, "ue2")["period_ms"] == 500
    assert settings(ric, "ue1")["period_ms"] == 300


@pytest.mark.parametrize(
    "body", [{}, {"bytes_per_s": 0}, {"bytes_per_s": 1, "spending": "lavish"}, {"bytes": 1}]
)
def test_a_budget_that_cannot_be_is_refused(ric: RunningRic, body: dict[str, Any]) -> None:
    assert ric.call("PUT", "twin-budget", json=body).status_code == 422
    assert ric.get("twin-budget")["budget"] is None


def test_only_the_operator_sets_a_budget(ric: RunningRic) -> None:
    headers = token(ric, VIDEO_ID)
    for path, body in (("twin-budget", {"bytes_per_s": 9}), ("twin-representatives", {"users": 1})):
        url = f"{ric.url}/api/v1/{path}"
        assert requests.put(url, json=body, headers=headers, timeout=5).status_code == 403
        assert requests.get(url, headers=headers, timeout=5).status_code == 403


def test_representatives_are_chosen_told_and_dismissed(ric: RunningRic) -> None:
    answer = ric.call("PUT", "twin-representatives", json={"users": 2, "period_ms": 5000})
    assert answer.status_code == 200, answer.text
    assert answer.json()["clusters"] == [{"representative": "ue1", "stands_for": ["ue3"]}]
    assert settings(ric, "ue3")["represented_by"] == "ue1"
    assert settings(ric, "ue3")["period_ms"] == 5000
    # A chain would leave nobody who reports.
    refused = configure(ric, {"ue_id": "ue1"}, {"represented_by": "ue2"})
    assert refused.status_code == 422
    assert configure(ric, {"ue_id": "ue1"}, {"represented_by": "ue9"}).status_code == 422
    ric.call("DELETE", "twin-representatives")
    assert settings(ric, "ue3")["represented_by"] is None


def test_what_a_slices_twin_hides_no_token_reads(ric: RunningRic) -> None:
    ric.send_aggregate()
    wait_until(lambda: "owd_p95_ms" in ric.get(f"twins/slices/{VIDEO_ID}")["attributes"], 5)
    hidden = {"readers": {"owd_p95_ms": "operator"}}
    answer = configure(ric, {"slice_twin": VIDEO_ID}, hidden)
    assert answer.status_code == 200, answer.text
    headers = token(ric, VIDEO_ID, CONTROL_ID)

    def read(path: str) -> requests.Response:
        return requests.get(f"{ric.url}/api/v1/{path}", headers=headers, timeout=5)

    shown = read(f"twins/slices/{VIDEO_ID}").json()["attributes"]
    assert "demand_kbps" in shown
    assert not any(name.startswith("owd_p95_ms") for name in shown)
    assert f"owd_p95_ms.{VIDEO_ID}" not in read("twins/cells/ap1").json()["attributes"]
    before = len(denials(ric.run))
    for path in (
        f"twins/slices/{VIDEO_ID}/history?attribute=owd_p95_ms",
        f"twins/cells/ap1/history?attribute=owd_p95_ms.{VIDEO_ID}",
    ):
        assert read(path).status_code == 403
    assert len(denials(ric.run)) == before + 2
    rows, whole = read("twins/rows/slices").json(), ric.get("twins/rows/slices")
    assert any(r["owd_p95_ms"] is not None for r in whole if r["slice_id"] == 1)
    assert [r | ({"owd_p95_ms": None} if r["slice_id"] == 1 else {}) for r in whole] == rows
    assert ric.get(f"twins/slices/{VIDEO_ID}/history", attribute="owd_p95_ms")
    seen: list[dict[str, Any]] = []
    with requests.get(
        f"{ric.url}/api/v1/stream", headers=headers, stream=True, timeout=10
    ) as stream:
        ric.send_aggregate()
        seen.append(json.loads(next(stream.iter_lines())))
    (video,) = (s for s in seen[0]["slices"] if s["slice_id"] == 1)
    assert video["owd_p95_ms"] is None
    assert video["demand_kbps"] == 11_000.0


@pytest.mark.parametrize(
    ("target", "parameters", "status"),
    [
        ({"type": "slice"}, {"upload": "poll"}, 422),
        ({"type": "slice"}, {"period_ms": 700}, 422),
        ({"type": "slice"}, {"precision": {"services.demand_kbps": 1}}, 404),
        ({"type": "phone"}, {"precision": {"demand_kbps": 1}}, 404),
        ({"slice_twin": "9-999999"}, {"period_ms": 1000}, 404),
        ({"ue_ids": []}, {"period_ms": 1000}, 422),
        ({"ue_ids": ["ue1", "nobody"]}, {"period_ms": 1000}, 404),
    ],
)
def test_what_has_no_effect_is_refused_with_a_reason(
    ric: RunningRic, target: dict[str, Any], parameters: dict[str, Any], status: int
) -> None:
    answer = configure(ric, target, parameters)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_a_restarted_ric_goes_on_with_budget_and_representatives(ric: RunningRic) -> None:
    ric.run.twin_budget.write_text(
        json.dumps({"budget": {"bytes_per_s": 900.0}, "represented": {"users": 2}})
    )
    ric.stop()
    with running_ric(ric.run, ric.inventory) as again:
        assert again.get("twin-budget")["budget"]["bytes_per_s"] == 900
        assert again.get("twin-representatives")["represented"]["users"] == 2
        again.run.twin_budget.unlink()
