"""The shipped xApps as they are, on a running RIC: deployed, fed with aggregates, deciding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.ric_bench import RunningRic
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

REPOSITORY = Path(__file__).resolve().parents[2]
MEMORY_MAX_KB = 120_000


def send(ric: RunningRic, demand_kbps: float) -> str:
    """One window of `ap1` with this demand in slice 1; its trace id."""
    sample = {
        "slice_id": 1,
        "users": 1,
        "demand_kbps": demand_kbps,
        "goodput_kbps": demand_kbps,
        "loss_ratio": 0.0,
        "owd_p95_ms": 3.0,
    }
    return str(ric.send_aggregate(slices=[sample])["trace_id"])


def decisions(ric: RunningRic, xapp: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ric.get("decisions", xapp=xapp)
    return found


def deployed(ric: RunningRic, where: str, **fields: Any) -> dict[str, Any]:
    answer = ric.call("POST", "xapps", json={"descriptor_dir": where, **fields})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    # Ready is said before the stream is open; an aggregate sent in between would not be seen.
    wait_until(lambda: ric.status()["stream"]["consumers"] >= 1, 5)
    return document


@pytest.mark.parametrize("forecaster", ["onnx", "exponential_smoothing"])
def test_slice_planner_reserves_what_it_forecasts(ric: RunningRic, forecaster: str) -> None:
    name = f"planner-{forecaster.replace('_', '-')}"
    document = deployed(ric, "slice-planner", name=name, config={"forecaster": forecaster})
    assert document["state"] == "running"
    status = Path(f"/proc/{document['pid']}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kb < MEMORY_MAX_KB
    trace_id = send(ric, 10_000.0)
    wait_until(lambda: decisions(ric, name), 5)
    decision = decisions(ric, name)[0]
    assert (decision["verdict"], decision["trace_id"]) == ("applied", trace_id), decision
    first = decision["parameters"]["reservations"][0]
    assert 10_000 * 0.8 < first["predicted_kbps"] < 10_000 * 1.5
    assert first["min_kbps"] > first["predicted_kbps"]
    for earlier, later in zip(
        ("twin_completed", "aggregate_received", "inferred", "received"),
        ("aggregate_received", "inferred", "received", "confirmed"),
        strict=True,
    ):
        assert decision["hops_ns"][earlier] <= decision["hops_ns"][later]
    assert ric.call("DELETE", f"xapps/{name}").status_code == 200


@pytest.mark.parametrize("strategy", ["forecast", "nearest"])
def test_service_migration_runs_and_reads_user_twins(ric: RunningRic, strategy: str) -> None:
    name = f"migration-{strategy}"
    document = deployed(ric, "service-migration", name=name, config={"strategy": strategy})
    assert document["state"] == "running"
    assert document["scopes"] == ["migrate", "migrate_twin", "read"]
    status = Path(f"/proc/{document['pid']}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) < MEMORY_MAX_KB
    assert ric.call("DELETE", f"xapps/{name}").status_code == 200


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"strategy": "sometimes"}, "unknown strategy 'sometimes'; known: forecast, always"),
        ({"lead_s": -1}, "lead_s is -1.0; 0 or more was expected"),
    ],
)
def test_service_migrations_wrong_settings_are_named(
    ric: RunningRic, config: dict[str, Any], words: str
) -> None:
    answer = ric.call(
        "POST", "xapps", json={"descriptor_dir": "service-migration", "config": config}
    )
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_a_wrong_setting_is_one_line_of_the_deployments_answer(ric: RunningRic) -> None:
    answer = ric.call(
        "POST", "xapps", json={"descriptor_dir": "slice-planner", "config": {"margn": 1}}
    )
    assert answer.status_code == 422
    assert "slice-planner: unknown setting 'margn'; known:" in answer.json()["error"]


def test_the_template_works_as_it_is(ric: RunningRic) -> None:
    deployed(ric, str(REPOSITORY / "xapps" / "template"), name="template-1")
    send(ric, 1500.0)
    wait_until(lambda: decisions(ric, "template-1"), 5)
    decision = decisions(ric, "template-1")[0]
    assert decision["verdict"] == "applied", decision
    assert ric.call("DELETE", "xapps/template-1").status_code == 200
