"""A task service moves between servers of a running testbed while its users keep asking."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.contracts import rpc
from tests.conftest import UP_TIMEOUT_S, CommandLine, free_port
from tests.waiting import wait_until
from topologies.checkout import REPOSITORY

SCENARIOS = REPOSITORY / "topologies" / "scenarios"


def with_tcp(scenario: str) -> str:
    """Beside the task services: what is counted by segments, not by datagrams."""
    document = yaml.safe_load(scenario)
    bulk = {"name": "bulk", "slice": "assist", "traffic_class": "real_time", "host": "cloud"}
    document["services"].append({**bulk, "protocol": "tcp", "port": 5200})
    demand = {"shape": "constant", "mbps": 0.4}
    flow = {"name": "bulk", "kind": "tcp", "service": "bulk", "users": ["car1"], "demand": demand}
    document["traffic"] = [flow]
    return yaml.safe_dump(document)


@pytest.fixture(scope="module")
def moving(
    command_line: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandLine]:
    """Scenario `migration` with TCP in its slice, nobody but the test deciding."""
    port = f"northbound_port={free_port()}"
    scenario = tmp_path_factory.mktemp("scenario") / "migration.yaml"
    scenario.write_text(with_tcp((SCENARIOS / "migration.yaml").read_text()))
    command_line.output(
        "up", str(scenario), "--policy", "none", "--set", port, timeout_s=UP_TIMEOUT_S
    )
    try:
        yield command_line
    finally:
        command_line.output("down")


def clients(line: CommandLine, op: str, **arguments: Any) -> Any:
    run = (line.runs_root / "current").resolve()
    return rpc.call(Path(run) / "service-clients.sock", op, **arguments)


def host_of(line: CommandLine, name: str) -> str:
    return next(str(s["host"]) for s in line.json("service", "list") if s["name"] == name)


def instances(line: CommandLine) -> set[str]:
    names = {p["name"] for p in line.json("status")["processes"] if p["alive"]}
    return {n.removeprefix("service-") for n in names if n.startswith("service-assist1")}


def test_dry_run_shows_rules_and_changes_nothing(moving: CommandLine) -> None:
    record = moving.json("service", "migrate", "assist1", "--to", "edge2", "--dry-run")
    assert set(record["diff"]["flows"]) == {"west", "core", "east"}
    assert host_of(moving, "assist1") == "edge1"
    assert instances(moving) == {"assist1-edge1"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing", "--to", "edge2"), "task services: assist1, assist2, archive, ledger"),
        (("assist1", "--to", "nowhere"), "candidates: edge1, edge2, cloud"),
        (("assist1", "--to", "edge1"), "runs in edge1 already"),
    ],
)
def test_a_move_that_cannot_be_is_refused(
    arguments: tuple[str, ...], words: str, moving: CommandLine
) -> None:
    assert words in moving.refusal("service", "migrate", *arguments)
    assert host_of(moving, "assist1") == "edge1"


def test_state_moves_and_no_request_is_lost(moving: CommandLine) -> None:
    record = moving.json("service", "migrate", "assist1", "--to", "edge2")
    cost = record["effect_detail"]
    assert cost["wire_bytes"] > cost["state_bytes"], "the state did not cross the network"
    assert len(cost["rounds"]) >= 2, "pre-copy and last delta are two rounds at least"
    assert cost["downtime_ms"] > 0
    assert host_of(moving, "assist1") == "edge2"
    wait_until(lambda: instances(moving) == {"assist1-edge2"}, 5)
    begun_ns, ended_ns = record["hops_ns"]["guarded"], record["hops_ns"]["confirmed"]

    def rows() -> list[dict[str, Any]]:
        found = clients(moving, "collect", since_ns=begun_ns, until_ns=ended_ns)
        return [row for row in found if row["service"] == "assist1"]

    wait_until(lambda: all(r["latency_ms"] is not None for r in rows()), 2)
    assert {"edge1", "edge2"} >= {r["host"] for r in rows()} != set()
    newest = [r for r in rows() if r["host"] == "edge2"]
    wait_until(lambda: clients(moving, "status")["answered"] > len(newest), 2)
    assert clients(moving, "regressions")["assist1"] == 0, "a session lost its state"
    assert json.dumps(record["diff"])


def test_a_full_server_is_refused_with_its_numbers(moving: CommandLine) -> None:
    """Beside assist1 and assist2 edge2 has room for nothing of that size."""
    assert host_of(moving, "assist1") == "edge2"
    words = moving.refusal("service", "migrate", "ledger", "--to", "edge2")
    assert "edge2 is full" in words
    assert host_of(moving, "ledger") == "edge1"


# -- where tasks are worked on ---------------------------------------------------------------


def test_a_users_tasks_go_where_they_are_sent(moving: CommandLine) -> None:
    """`archive` is far away; a service near car1 does the same, the device does it in 80 ms."""
    assert "near" in moving.output(
        "service", "offload", "archive", "--user", "car1", "--to", "archive-near", "--dry-run"
    )
    latency_ms = {}
    for place in ("archive-near", "device", "archive"):
        record = moving.json("service", "offload", "archive", "--user", "car1", "--to", place)
        since_ns = record["hops_ns"]["confirmed"]

        def own(since_ns: int = since_ns) -> list[dict[str, Any]]:
            found = clients(moving, "collect", since_ns=since_ns, until_ns=2**62)
            of_user = [r for r in found if (r["service"], r["ue_id"]) == ("archive", "car1")]
            return [r for r in of_user if r["latency_ms"] is not None]

        wait_until(lambda own=own: len(own()) >= 5, 5)  # type: ignore[misc]
        assert {r["place"] for r in own()} == {place}
        latency_ms[place] = min(r["latency_ms"] for r in own())
    assert latency_ms["archive-near"] < latency_ms["archive"], latency_ms
    assert latency_ms["device"] >= 80, "the device cannot be quicker than its stated cost"
    assert moving.json("twin", "show", "car1")["strategy"]["offloading"]["archive"] == "archive"
    words = "archive, archive-near, device"
    assert words in moving.refusal(
        "service", "offload", "archive", "--user", "car1", "--to", "ledger"
    )


# -- copies of twins, and the xApp ----------------------------------------------------------


def edge_of(line: CommandLine, ue_id: str) -> str:
    cells = {"west": "edge1", "east": "edge2"}
    return cells[next(str(u["cell_id"]) for u in line.json("ue", "list") if u["ue_id"] == ue_id)]


BORDER_M = 80.0
"""From there to the border it takes three seconds: time for both commands."""


def test_a_twins_copy_goes_ahead_of_its_user(moving: CommandLine) -> None:
    def is_far_from_the_border() -> bool:
        x_m, _ = moving.json("twin", "show", "car1")["user"]["location_m"]["value"]
        return bool(abs(x_m) > BORDER_M)

    wait_until(is_far_from_the_border, 15)
    (there,) = {"edge1", "edge2"} - {edge_of(moving, "car1")}
    assert "copy of the twin" in moving.output(
        "twin", "migrate", "car1", "--to", there, "--dry-run"
    )
    record = moving.json("twin", "migrate", "car1", "--to", there)
    assert record["confirmations"][0]["switch"] == there
    assert record["effect_detail"]["wire_bytes"] > 500, "no twin crossed the network"
    run = (moving.runs_root / "current").resolve()
    local = Path(run) / f"local-{there}.sock"
    copies = {t["id"]: t["version"] for t in rpc.call(local, "twins")}
    assert copies["car1"] >= record["effect_detail"]["version"]


def test_the_xapp_moves_a_service_and_its_requests_judge(moving: CommandLine) -> None:
    """As deployed, unchanged; the cars of `migration` cross the border every 19 s."""
    moving.output("xapp", "deploy", "service-migration")

    def moves() -> list[dict[str, Any]]:
        return [
            d
            for d in moving.json("decision", "list")
            if (d["xapp"], d["action"]) == ("service-migration", "migrate")
            and d["verdict"] == "applied"
        ]

    wait_until(moves, 30)
    first = moves()[0]
    assert first["based_on"][0].startswith("user/car")
    assert first["effect_detail"]["wire_bytes"] > first["effect_detail"]["state_bytes"]
    moving.output("xapp", "undeploy", "service-migration")

    def judged() -> dict[str, Any]:
        every = moving.json("decision", "list")
        return next(d for d in every if d["decision_id"] == first["decision_id"])

    wait_until(lambda: judged()["effect"] != "pending", 12)
    detail = judged()["effect_detail"]
    assert detail["requests_before"] > 0 and detail["requests_after"] > 0, detail
    assert detail["latency_unmoved_ms"] > 0


# -- a network function on the way ------------------------------------------------


def gate(line: CommandLine) -> dict[str, Any]:
    return next(f for f in line.json("vnf", "list") if f["name"] == "gate")


def answered_since(line: CommandLine, ue_id: str, begun_ns: int) -> list[bool]:
    """Of each request of the user to `archive` sent since, 0.3 s ago at the latest."""
    until_ns = time.time_ns() - 300_000_000
    found = clients(line, "collect", since_ns=begun_ns, until_ns=until_ns)
    own = [r for r in found if (r["service"], r["ue_id"]) == ("archive", ue_id)]
    return [r["latency_ms"] is not None for r in own]


def enough(line: CommandLine, ue_id: str, begun_ns: int) -> list[bool]:
    wait_until(lambda: len(answered_since(line, ue_id, begun_ns)) >= 8, 5)
    return answered_since(line, ue_id, begun_ns)


PLACE = ("vnf", "place", "gate", "--service", "archive", "--on", "compute1", "--deny", "car2")


def ipv6_echoes(line: CommandLine, host: str, sink: str) -> int:
    """How many of 4 echo requests to the sink's IPv6 address were answered."""
    ping = f"ping -6 -c 4 -i 0.05 -W 0.3 {sink} || true"
    found = re.search(r"(\d+) received", line.output("exec", host, "--", "sh", "-c", ping))
    assert found is not None
    return int(found[1])


def archive_ipv6(line: CommandLine) -> str:
    return next(str(s["ipv6"]) for s in line.json("service", "list") if s["name"] == "archive")


def test_a_firewall_on_the_way_drops_one_user_and_nobody_else(moving: CommandLine) -> None:
    """Both ways, both IP versions: what it counted is what was sent."""
    begun_ns = time.time_ns()
    rehearsed = moving.output(*PLACE, "--dry-run")
    assert "nothing was changed" in rehearsed and "core: +" in rehearsed
    assert moving.json("vnf", "list") == []
    moving.output(*PLACE)
    placed_ns = time.time_ns()
    assert not any(enough(moving, "car2", placed_ns)), "car2 is denied and was answered"
    assert gate(moving)["dropped_up_packets"] >= 8
    before = gate(moving)
    assert before["passed_up_packets"] > 0 and before["passed_down_packets"] > 0
    assert ipv6_echoes(moving, "car1", archive_ipv6(moving)) == 4
    assert ipv6_echoes(moving, "car2", archive_ipv6(moving)) == 0
    moving.output("vnf", "move", "gate", "--to", "compute2")
    moved_ns = time.time_ns()
    assert gate(moving)["host"] == "compute2"
    assert not any(enough(moving, "car2", placed_ns)), "the wall had a hole while it moved"
    assert all(enough(moving, "car1", moved_ns))
    now = gate(moving)
    assert now["passed_up_packets"] > 0 and now["passed_down_packets"] > 0
    assert "core: -" in moving.output("vnf", "remove", "gate", "--dry-run")
    moving.output("vnf", "remove", "gate")
    assert all(enough(moving, "car2", time.time_ns()))
    assert all(enough(moving, "car1", begun_ns)), "placing, moving or removing cost car1 a request"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("place", "x", "--service", "archive", "--on", "edge1"), "needs a server without"),
        (("place", "x", "--service", "nothing", "--on", "compute1"), "unknown service"),
        (("place", "x", "--service", "archive", "--on", "car1"), "unknown server 'car1'"),
        (("place", "x", "--service", "archive", "--on", "compute1", "--deny", "me"), "'me'"),
        (("move", "x", "--to", "compute1"), "unknown function 'x'"),
        (("remove", "x"), "unknown function 'x'"),
    ],
)
def test_a_function_that_cannot_be_is_refused(
    arguments: tuple[str, ...], words: str, moving: CommandLine
) -> None:
    assert words in moving.refusal("vnf", *arguments)
    assert moving.json("vnf", "list") == []


def test_a_run_with_a_function_that_drops_balances(moving: CommandLine, tmp_path: Path) -> None:
    """The last of this testbed: it ends its traffic. What functions dropped that are gone by
    now, the one that moved and the one placed here, all of it is accounted for, and so is the TCP
    that went on while services of its slice moved."""
    emulation = (moving.runs_root / "current").resolve() / "emulation.sock"
    rpc.call(emulation, "begin", 10.0)
    moving.output(*PLACE)
    placed_ns = time.time_ns()
    assert not any(enough(moving, "car2", placed_ns))
    wait_until(lambda: gate(moving)["dropped_up_packets"] >= 80, 15)  # ten requests a second
    rpc.call(emulation, "finish", 60.0, out=str(tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    (of_slice,) = (b for b in summary["balance"] if b["slice_ids"] == [2])
    print(of_slice, summary["validity"]["reasons"])
    dropped, missing = of_slice["function_drops"], of_slice["missing"]
    assert dropped >= 100 and missing == 0
    assert summary["leaks"]["by_host"] == {}, "what passes a function is no leak"
