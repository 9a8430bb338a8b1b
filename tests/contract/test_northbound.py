"""The northbound API of a running RIC: the real process, its namespaces, and HTTP.

Only the switches are replaced (tests/in_memory_enforcer.py); the shapes and status
codes are what scripts and xApps rely on.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from typing import Any

import pytest
import requests

from controller.contracts import rpc
from tests.ric_bench import (
    Neighbours,
    RunningRic,
    in_host,
)
from tests.ric_inventory import VIDEO
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def reserve(min_kbps: float, **fields: Any) -> dict[str, Any]:
    return {
        "trace_id": "t1",
        "xapp": f"test-{time.monotonic_ns()}",
        "action": "reserve",
        "target": {"cell_id": "ap2", "s_nssai": VIDEO},
        "parameters": {"min_kbps": min_kbps, "max_kbps": 20_000},
        **fields,
    }


# -- who may call ---------------------------------------------------------------------


def test_everything_needs_the_token_but_health_and_documentation(ric: RunningRic) -> None:
    assert stat.S_IMODE(ric.run.token.stat().st_mode) == 0o600
    for path in ("/api/v1/health", "/openapi.json", "/docs", "/metrics"):
        assert requests.get(ric.url + path, timeout=5).status_code == 200, path
    schema = requests.get(ric.url + "/openapi.json", timeout=5).json()
    checked = 0
    for path, operations in schema["paths"].items():
        for method in operations:
            if path.startswith("/api/v1/") and path != "/api/v1/health":
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "x"}):
                    answer = requests.request(method, ric.url + path, headers=headers, timeout=5)
                    assert answer.status_code == 401, (method, path)
                    assert set(answer.json()) == {"error", "hint"}
                checked += 1
    assert checked >= 20


def test_it_listens_on_loopback_only(ric: RunningRic) -> None:
    port = ric.inventory.northbound_tcp_port
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))


# -- lists ----------------------------------------------------------------------------


def test_lists_have_the_contracts_keys(ric: RunningRic) -> None:
    ues = ric.get("ues")
    assert ues[2] == {
        "ue_id": "ue3",
        "kind": "phone",
        "cell_id": "ap2",
        "sessions": [
            {"s_nssai": {"sst": 1, "sd": "000001"}, "ip": "10.1.1.3", "ipv6": "fd48:6f6c:1::1:3"},
            {"s_nssai": {"sst": 2, "sd": "000002"}, "ip": "10.2.1.3", "ipv6": "fd48:6f6c:2::1:3"},
        ],
    }
    slices = ric.get("slices")
    assert {"s_nssai", "name", "sla", "reserved", "cells"} <= slices[0].keys()
    assert slices[0]["cells"] == ["ap1", "ap2"]
    assert [s["name"] for s in ric.get("services")] == ["stream", "bulk", "commands"]
    assert {"name", "s_nssai", "host", "address"} <= ric.get("services")[0].keys()
    cells = {cell["cell_id"]: cell for cell in ric.get("cells")}
    assert cells["ap2"]["capacity_kbps"] == 20_000
    assert cells["ap2"]["reservable_kbps"] == 18_000
    assert {h["name"] for h in ric.get("topology")["hosts"]} >= {"centre", "edge1"}


def test_twins_of_all_kinds_are_listed_and_a_silent_edge_is_named(ric: RunningRic) -> None:
    answer = ric.call("GET", "twins")
    twins = answer.json()
    assert all(set(twin) == {"kind", "id", "version", "age_ms"} for twin in twins)
    assert {(t["kind"], t["id"]) for t in twins} == {
        ("user", "ue1"),
        ("slice", "1-000001"),
        ("slice", "2-000002"),
        ("cell", "ap1"),
        ("cell", "ap2"),
    }
    assert answer.headers["x-holon-unreachable"] == "edge2"
    shown = ric.get("twins/users/ue1")
    assert (shown["id"], shown["version"]) == ("ue1", 3)
    assert shown["user"]["slices"]["value"] == ["1-000001"]  # joined here
    assert ric.get("twins/users/ue1/history", last=5) == [{"id": "ue1", "version": 3}]


# -- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, reserve(1, target={"cell_id": "nowhere", "s_nssai": VIDEO})),
        (404, reserve(1, target={"cell_id": "ap1", "s_nssai": {"sst": 77}})),
        (404, reserve(1, action="handover", target={"ue_id": "u"}, parameters={"cell_id": "ap1"})),
        (422, reserve(float("nan"))),
        (422, reserve(float("inf"))),
        (422, reserve(-1)),
        (422, reserve(1, parameters={"min_kbps": "much", "max_kbps": []})),
        (422, reserve(1, parameters={"min_kbps": 10**400, "max_kbps": 1})),
        (422, reserve(1, target="ap1")),
        (422, reserve(1, target={"cell_id": "\ud800", "s_nssai": VIDEO})),
        (422, reserve(1, decision_id="\ud800")),
        (422, reserve(1, action="explode")),
        (422, reserve(1, valid_for_ms=0)),
        (422, reserve(1, surprise=True)),
        (422, reserve(1, decision_id="d" * 65)),
        (422, reserve(1, hops_ns={"inferred": 1.5})),
        (422, {}),
        (422, []),
        (422, None),
    ],
)
def test_bad_decisions_get_an_error_and_a_hint(ric: RunningRic, status: int, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    answer = ric.call("POST", "decisions", data=json.dumps(body), headers=headers)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "hint"}
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"min": ' + b"9" * 5000 + b"}", b"x" * 2_000_000]
)
def test_what_is_no_json_is_malformed(ric: RunningRic, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("decisions", "xapps"):
        answer = ric.call("POST", path, data=raw, headers=headers)
        assert answer.status_code == 422, answer.text
        assert set(answer.json()) == {"error", "hint"}


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (404, "nothing"),
        (404, "twins/cells/ap9"),
        (404, "twins/slices/1-0000ff"),
        (404, "twins/users/ue9"),
        (404, "twins/users/ue2"),
        (503, "twins/users/ue3"),
        (422, "twins/moods"),
        (404, "twins/cells/ap1/history?attribute=mood"),
        (422, "twins/cells/ap1/history"),
        (422, "twins/cells/ap1/history?attribute=x&last=0"),
        (404, "decisions/d9"),
        (422, "decisions?last=many"),
        (422, "decisions?verdict=maybe"),
        (404, "xapps/none"),
        (404, "xapps/none/logs"),
        (422, "stream?kind=moods"),
        (404, "stream?kind=cell&id=ap9"),
        (422, "stream?period_ms=-1"),
    ],
)
def test_bad_requests_name_what_is_wrong(ric: RunningRic, status: int, path: str) -> None:
    answer = ric.call("GET", path)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "hint"}


# -- decisions ------------------------------------------------------------------------


def test_absurd_numbers_are_rejected_by_the_guard_and_change_nothing(ric: RunningRic) -> None:
    before = ric.get("cells")
    answer = ric.call("POST", "decisions", json=reserve(1e9))
    assert answer.status_code == 200
    record = answer.json()
    assert record["verdict"] == "rejected"
    assert "1000000000" in record["reason"]
    assert ric.get("cells") == before
    assert ric.get(f"decisions/{record['decision_id']}") == record


def test_a_decision_follows_its_trace_from_the_twin_to_measured_packets(ric: RunningRic) -> None:
    sent = ric.send_aggregate()
    wait_until(lambda: ric.status()["aggregates"]["accepted"] >= 1, 5)
    body = reserve(12_000, trace_id=sent["trace_id"], target={"cell_id": "ap1", "s_nssai": VIDEO})
    dry = ric.call("POST", "decisions", json={**body, "dry_run": True}).json()
    assert dry["diff"] == {"queues": ["1/elastic"]}
    record = ric.call("POST", "decisions", json=body).json()
    assert record["verdict"] == "applied"
    hops = record["hops_ns"]
    order = ["twin_completed", "aggregate_sent", "aggregate_received", "received", "guarded"]
    times = [hops[hop] for hop in (*order, "enforced", "confirmed")]
    assert times == sorted(times)
    assert hops["twin_completed"] == sent["completed_at_ns"]
    elapsed_ms = (hops["confirmed"] - hops["twin_completed"]) / 1e6
    assert record["loop_latency_ms"] == pytest.approx(elapsed_ms - 2.0)
    url = f"decisions/{record['decision_id']}"
    wait_until(lambda: ric.get(url)["effect"] != "pending", 6)
    judged = ric.get(url)
    assert judged["effect"] == "verified", judged
    numbers = judged["effect_detail"]["classes"]["1/elastic"]
    assert numbers["demand_kbps"] == pytest.approx(11_000, rel=0.02)
    assert numbers["window_s"] >= 2
    assert judged in ric.get("decisions", effect="verified")
    line = json.loads((ric.run.results / "decisions.jsonl").read_text().splitlines()[-1])
    assert line == judged


def test_repeating_a_decision_repeats_its_answer(ric: RunningRic) -> None:
    body = reserve(9000, decision_id="once")
    first = ric.call("POST", "decisions", json=body).json()
    assert ric.call("POST", "decisions", json=body).json() == first
    other = ric.call("POST", "decisions", json={**body, "parameters": {}})
    assert other.status_code == 422
    changed = {**body, "parameters": {"min_kbps": 1.0, "max_kbps": 20_000}}
    assert ric.call("POST", "decisions", json=changed).status_code == 409


def test_too_many_decisions_are_429_with_the_record(ric: RunningRic) -> None:
    body = reserve(1e9, xapp="hasty")
    answers = [ric.call("POST", "decisions", json=body) for _ in range(20)]
    codes = [answer.status_code for answer in answers]
    assert codes[:12] == [200] * 12
    assert 429 in codes
    refused = answers[codes.index(429)].json()
    assert refused["error"] and refused["hint"]
    assert refused["decision"]["verdict"] == "rejected"


def test_a_handover_is_told_to_the_neighbours_that_listen(
    ric: RunningRic, neighbours: Neighbours
) -> None:
    answer = rpc.call(
        ric.run.ric_socket,
        "decide",
        request={
            "trace_id": "a3",
            "xapp": "a3-handover",
            "action": "handover",
            "target": {"ue_id": "ue2"},
            "parameters": {"cell_id": "ap2"},
        },
    )
    assert answer["verdict"] == "applied"
    wait_until(lambda: len(neighbours.heard) >= 2, 5)
    assert sorted(neighbours.heard) == [("edge1", "ue2", "ap2"), ("emulation", "ue2", "ap2")]
    wait_until(lambda: ric.status()["unreached"] == {"edge2": 1}, 5)
    assert {ue["ue_id"]: ue["cell_id"] for ue in ric.get("ues")}["ue2"] == "ap2"
    with pytest.raises(rpc.RpcError, match="unknown cell"):
        rpc.call(
            ric.run.ric_socket,
            "decide",
            request={
                "trace_id": "a3",
                "xapp": "a3-handover",
                "action": "handover",
                "target": {"ue_id": "ue2"},
                "parameters": {"cell_id": "ap7"},
            },
        )


# -- twins and stream -----------------------------------------------------------------


def test_an_aggregate_is_in_twins_history_and_stream_at_once(ric: RunningRic) -> None:
    events: list[dict[str, Any]] = []
    with ric.call("GET", "stream", params={"kind": "cell", "id": "ap1"}, stream=True) as stream:
        assert stream.headers["content-type"].startswith("application/x-ndjson")
        lines = stream.iter_lines()
        reading = threading.Thread(target=lambda: events.append(json.loads(next(lines))))
        reading.start()
        wait_until(lambda: ric.status()["stream"]["consumers"] == 1, 5)
        sent = ric.send_aggregate()
        reading.join(5)
    assert events, "no event within 5 s"
    event = events[0]
    assert event["trace_id"] == sent["trace_id"]
    assert event["received_at_ns"] >= sent["sent_at_ns"]
    assert event["slices"][0]["demand_kbps"] == 11_000
    assert event["slices"][0]["s_nssai"] == VIDEO
    assert set(event["slices"][0]["reservation"]) == {"min_kbps", "max_kbps"}
    twin = ric.get("twins/cells/ap1")
    attribute = twin["attributes"]["demand_kbps.1-000001"]
    assert {"value", "unit", "measured_at", "age_ms", "period_ms", "source"} <= attribute.keys()
    assert attribute["value"] == 11_000
    assert ric.get("twins/slices/1-000001")["attributes"]["demand_kbps.ap1"]["value"] == 11_000
    points = ric.get("twins/cells/ap1/history", attribute="demand_kbps.1-000001", last=1)
    assert points[0]["window"] == sent["window"]
    wait_until(lambda: ric.status()["stream"]["consumers"] == 0 or ric.send_aggregate() is None, 5)


def test_forged_aggregates_are_counted_and_ignored(ric: RunningRic) -> None:
    before = ric.get("twins/cells/ap1")["version"]
    ric.send_aggregate(edge_index=1)
    ric.send_datagram(b"\x01\x63\x01\x01")  # cell 99
    wait_until(lambda: ric.status()["aggregates"]["refused"].get("spoofed"), 5)
    wait_until(lambda: ric.status()["aggregates"]["refused"].get("foreign_cell"), 5)
    text = requests.get(ric.url + "/metrics", timeout=5).text
    assert 'holon_aggregates_refused_total{reason="spoofed"} 1' in text
    assert ric.get("twins/cells/ap1")["version"] >= before


def test_the_api_is_inside_every_edge_and_the_centre(
    ric: RunningRic, namespaces: dict[str, int]
) -> None:
    program = (
        "import urllib.request;"
        "print(urllib.request.urlopen('http://127.0.0.1:8080/api/v1/health').read().decode())"
    )
    for host, pid in namespaces.items():
        done = in_host(pid, ["python3", "-c", program])
        assert done.returncode == 0, f"{host}: {done.stderr}"
        assert json.loads(done.stdout)["ready"] is True
