"""Packets through compiled rules while wires between switches are cut: reached, never in a loop."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from controller.contracts.addressing import (
    CENTRE_IP,
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
    GATEWAY_MAC,
    edge_ip,
    session_ip,
)
from controller.contracts.inventory import PortRole
from controller.contracts.slices import TrafficClass, dscp_of, queue_of
from controller.network_view import network_of
from controller.rules import compile_network
from controller.switch_program import Kind
from tests.emulated.networks import two_cells
from tests.pipeline.fake_network import FakeNetwork, ipv4
from tests.planned_network import planned_inventory

VIDEO = 1
ELASTIC = dscp_of(VIDEO, TrafficClass.ELASTIC)
CELLS = ("ap1", "ap2", "ap3", "ap4")


def chain(links: list[tuple[str, str]]) -> dict[str, Any]:
    """Four access points with an edge each (ap4 keeps its twins at edge1), a cloud, a user each."""
    document = two_cells()
    access_point = document["access_points"][0]
    edges = {"ap1": "edge1", "ap2": "edge2", "ap3": "edge3", "ap4": "edge1"}
    backhaul = {"rate_mbps": 50}
    user = document["users"][0]
    return {
        **document,
        "access_points": [
            {**access_point, "name": n, "edge": edges[n], "backhaul": backhaul} for n in CELLS
        ],
        "links": [{"between": list(ends), "rate_mbps": 30} for ends in links],
        "servers": [
            *({"name": f"edge{i}", "kind": "edge", "attach": f"ap{i}"} for i in (1, 2, 3)),
            {"name": "cloud", "kind": "cloud", "attach": "core"},
        ],
        "users": [{**user, "name": f"ue{i}", "slices": ["video"]} for i in (1, 2, 3, 4)],
        "services": [
            {**document["services"][0], "name": "stream", "host": "edge1", "candidates": []},
            {**document["services"][0], "name": "far", "host": "cloud", "candidates": []},
            {**document["services"][0], "name": "near", "host": "edge2", "candidates": []},
        ],
        "initial_reservations": [],
        "bottlenecks": [],
    }


CHAIN = [("ap1", "ap2"), ("ap2", "ap3"), ("ap3", "ap4")]
SERVING = {f"ue{i}": f"ap{i}" for i in (1, 2, 3, 4)}
INVENTORY = planned_inventory(chain(CHAIN), SERVING)
WIRES = [
    (p.switch, p.port_no)
    for p in INVENTORY.ports
    if p.role is PortRole.INFRASTRUCTURE
    and "air" not in (p.switch, p.peer)
    and (p.peer == "core" or p.switch < p.peer != "core")
    and p.switch != "core"
]
HOSTS = {
    **{f"ue{i}": session_ip(VIDEO, i - 1) for i in (1, 2, 3, 4)},
    **{s.host: s.address for s in INVENTORY.services},
}


@pytest.fixture
def net() -> FakeNetwork:
    return FakeNetwork(INVENTORY)


def send(net: FakeNetwork, source: str, sink: str) -> Any:
    return net.send(source, ipv4(HOSTS[source], HOSTS[sink]))


def pairs() -> list[tuple[str, str]]:
    """Both ends are users, or one is a user: what the slice's traffic is."""
    found = itertools.permutations(HOSTS, 2)
    return [(a, b) for a, b in found if a.startswith("ue") or b.startswith("ue")]


def up_port(cell_id: str) -> tuple[str, int]:
    return cell_id, INVENTORY.cell(cell_id).up_port


@pytest.mark.parametrize("cut", WIRES, ids=lambda w: f"{w[0]}_{w[1]}")
def test_with_any_one_wire_cut_everybody_reaches_everybody(
    net: FakeNetwork, cut: tuple[str, int]
) -> None:
    net.cut(*cut)
    for source, sink in pairs():
        journey = send(net, source, sink)
        assert list(journey.delivered) == [sink], (source, sink, journey.path, journey.dropped)
        packet = journey.delivered[sink]
        assert packet["eth_dst"] == INVENTORY.host(sink).mac
        assert packet["eth_src"] == GATEWAY_MAC


def test_whatever_is_cut_no_packet_runs_in_a_loop_or_arrives_twice(net: FakeNetwork) -> None:
    for count in (2, 3, 4, len(WIRES)):
        for cuts in itertools.combinations(WIRES, count):
            net.mend()
            for cut in cuts:
                net.cut(*cut)
            for source, sink in pairs():
                journey = send(net, source, sink)  # asserts that it ends
                assert set(journey.delivered) <= {sink}
                assert len(journey.path) == len(set(journey.path)) or len(journey.path) <= 9


def test_bounce_back_next_to_the_failure(net: FakeNetwork) -> None:
    """From ap2 to a user of ap1 whose wire to the core is cut: the core sends it back to ap2."""
    net.cut(*up_port("ap1"))
    journey = send(net, "ue2", "ue1")
    assert journey.path == ["air", "ap2", "core", "ap2", "ap1", "air"]
    assert list(journey.delivered) == ["ue1"]


def test_a_detour_over_another_detour_s_switch_is_short_where_it_can_be(net: FakeNetwork) -> None:
    """Up from ap1 over ap2; what is meant for ap2's own edge need not go to the core."""
    net.cut(*up_port("ap1"))
    assert send(net, "ue1", "edge2").path == ["air", "ap1", "ap2"]
    assert send(net, "ue1", "cloud").path == ["air", "ap1", "ap2", "core"]


@pytest.mark.parametrize("cell_id", CELLS)
def test_reports_reach_the_edge_of_their_cell_by_the_detour_too(
    net: FakeNetwork, cell_id: str
) -> None:
    net.cut(*up_port(cell_id))
    ue_id = f"ue{cell_id[-1]}"
    report = ipv4(INVENTORY.user(ue_id).infrastructure_ip, COLLECTOR_IP, udp_dst=COLLECTOR_UDP_PORT)
    assert list(net.send(ue_id, report).delivered) == [INVENTORY.cell(cell_id).edge]


def test_aggregates_reach_the_centre_by_the_detour_too(net: FakeNetwork) -> None:
    net.cut(*up_port("ap2"))
    assert list(net.send("edge2", ipv4(edge_ip(1), CENTRE_IP)).delivered) == ["centre"]
    assert list(net.send("centre", ipv4(CENTRE_IP, edge_ip(1))).delivered) == ["edge2"]


def test_queues_and_meters_hold_on_the_detour(net: FakeNetwork) -> None:
    net.cut(*up_port("ap1"))
    down = send(net, "cloud", "ue1")
    assert down.path == ["core", "ap2", "ap1", "air"]
    link = next(p for p in INVENTORY.ports if (p.switch, p.peer) == ("ap2", "ap1"))
    assert down.queues[link.interface] == queue_of(ELASTIC)
    assert down.queues["ap1_1"] == queue_of(ELASTIC)
    assert len(net.switches["ap1"].metered) == 1


def test_isolation_holds_on_the_detour(net: FakeNetwork) -> None:
    net.cut(*up_port("ap1"))
    before = net.total(Kind.VIOLATION)
    strange = net.send("ue1", ipv4(HOSTS["ue1"], session_ip(2, 1)))
    assert not strange.delivered and net.total(Kind.VIOLATION) == before + 1


def test_without_second_paths_there_are_no_groups_and_no_other_rules() -> None:
    inventory = planned_inventory(chain([]), SERVING)
    network = network_of(inventory)
    programs = compile_network(network, FakeNetwork(inventory).state)
    assert not any(p.groups for p in programs.values())
    actions = [a for p in programs.values() for f in p.flows.values() for a in f.actions]
    assert not [a for a in actions if a[0] == "group"]
    assert not [
        f for p in programs.values() for f in p.flows.values() if "eth_dst" in dict(f.match)
    ]


def test_a_second_wire_to_the_core_is_a_second_path() -> None:
    inventory = planned_inventory(chain([("ap1", "core")]), SERVING)
    net = FakeNetwork(inventory)
    net.cut("ap1", inventory.cell("ap1").up_port)
    assert send(net, "ue1", "cloud").path == ["air", "ap1", "core"]
    assert list(send(net, "cloud", "ue1").delivered) == ["ue1"]
