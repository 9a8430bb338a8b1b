"""Compiled programs: what the pipeline declares, how rules grow, what a change may touch."""

from __future__ import annotations

from typing import Any

import pytest

from controller import pipeline
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slices import TrafficClass
from controller.errors import NetworkDescriptionError, UndeclaredMatchError
from controller.forwarding import serving_cells
from controller.network_state import Attachment, initial_state
from controller.network_view import network_of
from controller.pipeline import CLASSIFY, EGRESS, FORWARD, ISOLATION, TABLES, Miss, rule
from controller.reconcile import difference
from controller.rules import compile_network, compile_switch
from controller.switch_program import Flow, Kind, Meter, cookie_of, kind_and_slice
from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory

ELASTIC, REAL_TIME = TrafficClass.ELASTIC, TrafficClass.REAL_TIME


def many_users(count: int, access_points: int = 2) -> Inventory:
    document = two_cells()
    document["users"] = [
        {
            "name": f"u{i}", "type": "phone", "slices": ["video"],
            "mobility": {"kind": "static", "position_m": [0, 0]},
        }
        for i in range(count)
    ]  # fmt: skip
    first = document["access_points"][0]
    document["access_points"] = [{**first, "name": f"ap{i + 1}"} for i in range(access_points)]
    return planned_inventory(document)


def total_rules(inventory: Inventory) -> int:
    network = network_of(inventory)
    programs = compile_network(network, initial_state(inventory))
    return sum(len(p.flows) for p in programs.values())


class TestPipeline:
    def test_undeclared_match_is_refused_with_what_is_declared(self) -> None:
        with pytest.raises(UndeclaredMatchError, match="isolation.*tcp_dst.*declared.*ipv4_dst"):
            rule(ISOLATION, 1, {"tcp_dst": 80})

    def test_undeclared_next_table_is_refused(self) -> None:
        with pytest.raises(UndeclaredMatchError, match="egress.*classify"):
            rule(EGRESS, 1, {}, goto=CLASSIFY)

    def test_tables_are_numbered_in_order_and_only_go_forward(self) -> None:
        assert [t.table_id for t in TABLES] == list(range(len(TABLES)))
        assert all(n > t.table_id for t in TABLES for n in t.next_tables)

    def test_every_table_has_its_miss_rule_on_every_switch(self) -> None:
        inventory = planned_inventory(two_cells())
        programs = compile_network(network_of(inventory), initial_state(inventory))
        for program in programs.values():
            for table in TABLES:
                miss = program.flows[table.table_id, 0, ()]
                assert (miss.goto is None) == (table.miss is Miss.DROP)
                counted = kind_and_slice(miss.cookie)[0] is Kind.MISS
                assert counted == (table.miss is Miss.DROP)

    def test_cookie_carries_kind_and_slice(self) -> None:
        assert kind_and_slice(cookie_of(Kind.DELIVER, 9)) == (Kind.DELIVER, 9)
        assert cookie_of(Kind.MISS) >> 48 == 0x486F

    def test_registers_do_not_overlap(self) -> None:
        masks = [pipeline.DSCP_MASK, pipeline.EDGE_MASK, pipeline.EGRESS_MASK]
        assert sum(masks) == masks[0] | masks[1] | masks[2]
        assert pipeline.SLICE_MASK & pipeline.DSCP_MASK == pipeline.SLICE_MASK


class TestGrowth:
    def test_rules_grow_with_users_times_switches_on_their_path(self) -> None:
        """Each user adds the same number of rules, however many there are already."""
        steps = [total_rules(many_users(n)) for n in (10, 20, 40)]
        assert (steps[2] - steps[1]) == 2 * (steps[1] - steps[0])

    def test_another_access_point_adds_no_rules_for_users_it_does_not_carry(self) -> None:
        few = [total_rules(many_users(10, n)) for n in (2, 3)]
        many = [total_rules(many_users(30, n)) for n in (2, 3)]
        assert few[1] - few[0] == many[1] - many[0]

    def test_a_flow_meters_once(self) -> None:
        inventory = planned_inventory(two_cells())
        programs = compile_network(network_of(inventory), initial_state(inventory))
        for program in programs.values():
            used = {f.meter_id for f in program.flows.values()} - {None}
            assert used == set(program.meters)


class TestMeters:
    def meters(self, reservations: list[Reservation]) -> dict[Any, Meter]:
        inventory = planned_inventory(two_cells())
        state = initial_state(inventory).reserved("ap1", reservations)
        program = compile_switch(network_of(inventory), state, "ap1")
        return {(m.use.slice_id, m.use.direction): m for m in program.meters.values() if m.use}

    def test_rate_is_the_reservation_s_ceiling(self) -> None:
        found = self.meters([reservation(1, ELASTIC, 4000, 9000)])
        assert found[1, "down"].rate_kbps == 9000

    def test_real_time_is_limited_to_what_is_guaranteed(self) -> None:
        found = self.meters([reservation(2, REAL_TIME, 3000, 9000)])
        assert found[2, "down"].rate_kbps == 3000

    def test_without_reservation_the_cell_is_the_limit(self) -> None:
        assert self.meters([])[1, "down"].rate_kbps == 20_000

    def test_burst_is_set_and_holds_whole_frames(self) -> None:
        assert self.meters([])[1, "down"].burst_kbit == 1000
        slow = self.meters([reservation(1, ELASTIC, 0, 0)])[1, "down"]
        assert slow.rate_kbps == 12 and slow.burst_kbit == 120

    def test_uplink_meters_stand_on_the_air(self) -> None:
        inventory = planned_inventory(two_cells())
        air = compile_switch(network_of(inventory), initial_state(inventory), "air")
        rates = {(m.use.cell_id, m.rate_kbps) for m in air.meters.values() if m.use}
        assert rates == {("ap1", 12_000), ("ap2", 100_000)}


class TestChanges:
    def test_a_reservation_touches_meters_of_one_switch_and_no_flow(self) -> None:
        inventory = planned_inventory(two_cells())
        network, before = network_of(inventory), initial_state(inventory)
        after = before.reserved("ap1", [reservation(1, ELASTIC, 1000, 2000)])
        old, new = compile_network(network, before), compile_network(network, after)
        changes = {name: difference(old[name], new[name]) for name in old}
        assert [n for n, c in changes.items() if not c.is_empty] == ["ap1"]
        assert not changes["ap1"].touches_flows
        assert not changes["ap1"].meters_add and not changes["ap1"].meters_delete

    def test_a_handover_touches_no_counted_rule(self) -> None:
        inventory = planned_inventory(two_cells())
        network, before = network_of(inventory), initial_state(inventory)
        after = before.attached("ue1", Attachment.at("ap2"))
        old, new = compile_network(network, before), compile_network(network, after)
        touched: list[Flow] = []
        for name in old:
            change = difference(old[name], new[name])
            touched += [*change.flows_add, *change.flows_replace, *change.flows_delete]
        assert {kind_and_slice(f.cookie)[0] for f in touched} == {Kind.PATH, Kind.USER}
        assert {f.table_id for f in touched} == {FORWARD.table_id}

    def test_a_restarted_controller_finds_users_where_they_are(self) -> None:
        inventory = planned_inventory(two_cells())
        network = network_of(inventory)
        moved = initial_state(inventory).attached("ue1", Attachment.at("ap2"))
        core = compile_switch(network, moved, "core")
        assert serving_cells(network, core) == {"ue1": "ap2", "ue2": "ap1"}


class TestBadInventory:
    def test_two_edges_on_one_switch_collecting_for_others(self) -> None:
        document = two_cells()
        document["servers"].append({"name": "edge2", "kind": "edge", "attach": "ap1"})
        document["access_points"][1]["edge"] = "edge1"
        third = {**document["access_points"][1], "name": "ap3", "edge": "edge2"}
        document["access_points"].append(third)
        inventory = planned_inventory(document)
        with pytest.raises(NetworkDescriptionError, match="edge1, edge2 both collect"):
            compile_switch(network_of(inventory), initial_state(inventory), "ap1")

    def test_service_on_unknown_host(self) -> None:
        inventory = planned_inventory(two_cells())
        broken = inventory.services[0].model_copy(update={"host": "nowhere"})
        inventory = inventory.model_copy(update={"services": [broken]})
        with pytest.raises(NetworkDescriptionError, match="stream.*nowhere"):
            network_of(inventory)


def reservation(
    slice_id: int, traffic_class: TrafficClass, min_kbps: int, max_kbps: int
) -> Reservation:
    return Reservation(
        slice_id=slice_id, traffic_class=traffic_class, min_kbps=min_kbps, max_kbps=max_kbps
    )
