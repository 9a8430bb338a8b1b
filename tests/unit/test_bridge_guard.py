"""What of the switches' configuration is not as planned, and what is put back."""

from __future__ import annotations

import json
from typing import Any

from tests.emulated.networks import two_cells
from topologies.bridge_guard import BridgeGuard, Configured, damage, only, orphans
from topologies.plan import plan_network
from topologies.scenario.schema import Scenario

PLAN = plan_network(Scenario.model_validate(two_cells()))
TARGET = "tcp:127.0.0.1:6653"


def as_planned() -> dict[str, Configured]:
    return {
        s.name: Configured(
            ports=frozenset(p.interface for p in PLAN.ports if p.switch == s.name),
            queued=frozenset(
                p.interface for p in PLAN.ports if p.switch == s.name and p.rate_kbps is not None
            ),
            controllers={f"row-{s.name}": TARGET},
            fail_mode="secure",
        )
        for s in PLAN.switches
    }


def changed(switch: str, **fields: Any) -> dict[str, Configured]:
    found = as_planned()
    found[switch] = Configured(**{**vars(found[switch]), **fields})
    return found


def test_as_planned_nothing_is_done() -> None:
    assert damage(PLAN, TARGET, as_planned()).words == ()


def test_a_deleted_bridge_and_a_deleted_port_are_made_anew() -> None:
    without = {name: c for name, c in as_planned().items() if name != "ap2"}
    assert damage(PLAN, TARGET, without).bridges == ("ap2",)
    found = damage(PLAN, TARGET, changed("ap1", ports=as_planned()["ap1"].ports - {"ap1_1"}))
    assert found.bridges == ("ap1",) and found.words == ("port ap1_1 of ap1 was deleted",)


def test_a_cleared_queue_tree_costs_no_bridge() -> None:
    found = damage(PLAN, TARGET, changed("ap1", queued=frozenset()))
    assert found.bridges == () and "ap1_1" in found.bare


def test_a_second_controller_is_removed_and_the_own_one_kept() -> None:
    rows = {"row-ap1": TARGET, "row-x": "tcp:10.9.9.9:6653"}
    found = damage(PLAN, TARGET, changed("ap1", controllers=rows))
    assert found.rogues == (("ap1", "row-x"),) and found.misled == ()


def test_a_replaced_controller_and_an_open_fail_mode_are_set_again() -> None:
    for fields in ({"controllers": {}}, {"fail_mode": "standalone"}):
        assert damage(PLAN, TARGET, changed("core", **fields)).misled == ("core",)


def test_the_part_of_a_plan_holds_only_its_switches() -> None:
    part = only(PLAN, ("ap1",))
    assert {p.switch for p in part.ports} == {"ap1"} and len(part.switches) == 1
    assert set(part.queue_packets) <= {p.interface for p in part.ports}


def table(*rows: dict[str, Any]) -> str:
    headings = list(rows[0]) if rows else []
    return json.dumps({"headings": headings, "data": [list(r.values()) for r in rows]})


def uuid(name: str) -> list[str]:
    return ["uuid", name]


def listing(port_qos: list[Any]) -> str:
    return "\n".join(
        [
            table(
                {
                    "_uuid": uuid("b"), "name": "ap1", "ports": uuid("p"),
                    "controller": uuid("c"), "fail_mode": "secure",
                }
            ),
            table({"_uuid": uuid("p"), "name": "ap1_1", "qos": port_qos}),
            table({"_uuid": uuid("c"), "target": TARGET}),
            table({"_uuid": uuid("t"), "queues": ["map", [[0, uuid("q")]]]}),
            table({"_uuid": uuid("q")}, {"_uuid": uuid("r")}),
        ]
    )  # fmt: skip


def test_queue_trees_of_no_port_are_found() -> None:
    assert orphans(listing(uuid("t"))) == [("Queue", "r")]
    assert orphans(listing(["set", []])) == [("QoS", "t"), ("Queue", "q"), ("Queue", "r")]


def test_repairing_puts_back_what_is_missing_and_clears_what_is_left_over() -> None:
    commands: list[list[str]] = []
    made: list[str] = []

    def vsctl(arguments: list[str]) -> str:
        commands.append(arguments)
        return listing(["set", []])

    guard = BridgeGuard(
        PLAN,
        TARGET,
        vsctl,
        lambda part: made.extend(s.name for s in part.switches),
        lambda ports: None,
        lambda bridges, towards: made.append(f"held, {len(towards)} ports"),
        lambda: made.append("room made"),
    )
    words = guard.repair()
    names = [s.name for s in PLAN.switches]
    between = [p for p in PLAN.ports if p.peer in names]
    assert made == [f"held, {len(between)} ports", *names, "room made"]
    assert "bridge core was deleted" in words
    assert ["--if-exists", "destroy", "QoS", "t"] in commands
