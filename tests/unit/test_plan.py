"""The plan and the inventory follow from the scenario alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from controller.contracts.addressing import CENTRE_IP, COLLECTOR_IP, GATEWAY_IP
from controller.contracts.inventory import Inventory, PortRole, SwitchRole
from controller.contracts.slices import TrafficClass
from tests.emulated.networks import two_cells
from topologies import hosts
from topologies.bridges import transaction
from topologies.describe import Policy, describe
from topologies.errors import EmulationError
from topologies.plan import Plan, plan_network
from topologies.radio import serving_cell_at_start
from topologies.scenario.schema import Scenario

pytestmark = pytest.mark.unit


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(two_cells(**changes))


def inventory(policy: Policy = "xapps", **changes: Any) -> Inventory:
    wanted = scenario(**changes)
    plan = plan_network(wanted)
    pids = {host.name: 1000 + index for index, host in enumerate(plan.hosts)}
    cells = serving_cell_at_start(wanted)
    return describe(wanted, plan, "r1", "holon-r1", policy, pids, cells)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_network(scenario())


def test_the_same_scenario_has_the_same_plan(plan: Plan) -> None:
    assert plan == plan_network(scenario())


def test_switches(plan: Plan) -> None:
    assert [(s.name, s.dpid, s.role) for s in plan.switches] == [
        ("core", 1, SwitchRole.CORE),
        ("air", 2, SwitchRole.AIR),
        ("ap1", 3, SwitchRole.ACCESS_POINT),
        ("ap2", 4, SwitchRole.ACCESS_POINT),
    ]


def test_ports_are_numbered_from_1_without_gaps(plan: Plan) -> None:
    for switch in plan.switches:
        numbers = [p.port_no for p in plan.ports if p.switch == switch.name]
        assert numbers == list(range(1, len(numbers) + 1))
    assert (plan.port("ap2", "air").port_no, plan.port("ap2", "core").port_no) == (1, 2)
    assert (plan.port("air", "ap2").port_no, plan.port("core", "ap2").port_no) == (2, 2)


def test_rates_are_where_the_bottlenecks_are(plan: Plan) -> None:
    rates = {(p.switch, p.peer): p.rate_kbps for p in plan.ports if p.rate_kbps is not None}
    assert rates == {
        ("ap1", "air"): 20_000,
        ("ap1", "core"): 12_000,
        ("ap2", "air"): 100_000,
        ("ap2", "core"): 40_000,  # the backhaul is slower than the radio's 100
        ("core", "ap2"): 40_000,
        ("core", "cloud"): 30_000,
    }
    with_rate = {p.interface for p in plan.ports if p.rate_kbps is not None}
    assert set(plan.queue_packets) == with_rate


def test_only_links_with_delay_or_loss_are_wires(plan: Plan) -> None:
    wires = [(link.left.switch, link.left.peer) for link in plan.links if link.over_wire]
    assert wires == [("core", "cloud"), ("core", "centre")]


def test_roles(plan: Plan) -> None:
    roles = {p.peer: p.role for p in plan.ports}
    assert roles["ue1"] == PortRole.USER
    assert roles["edge1"] == roles["bg-src"] == roles["bg-sink"] == PortRole.SERVER
    assert roles["ap1"] == roles["air"] == roles["core"] == PortRole.INFRASTRUCTURE


def test_interface_names_fit_and_are_no_bridge() -> None:
    """Fifteen characters at most, with the longest names a scenario may use."""
    document = two_cells(core="corecorex1")
    for server in document["servers"]:
        server["attach"] = "corecorex1" if server["attach"] == "core" else server["attach"]
    document["users"][0]["name"] = "abcdefghij"
    long = plan_network(Scenario.model_validate(document))
    names = [p.interface for p in long.ports] + [h.interface for h in long.hosts]
    assert max(map(len, names)) <= 15
    assert len(set(names)) == len(names)
    assert not {s.name for s in long.switches} & set(names)


@pytest.mark.parametrize("name", ["bg-src", "bg-sink", "lo", "ovs-netdev"])
def test_reserved_names_are_refused(name: str) -> None:
    document = two_cells()
    document["users"][1]["name"] = name
    with pytest.raises((EmulationError, ValidationError), match=name):
        plan_network(Scenario.model_validate(document))


def test_addresses(plan: Plan) -> None:
    ips = {h.name: [a.ip for a in h.local_ips] for h in plan.hosts}
    assert ips["ue1"] == ["10.1.1.1", "10.2.1.1", "10.0.1.1"]
    assert ips["ue2"] == ["10.1.1.2", "10.0.1.2"]
    assert ips["edge1"] == ["10.0.0.10", COLLECTOR_IP, "10.1.200.1"]
    assert ips["cloud"] == ["10.0.0.11", "10.1.200.1", "10.2.200.2"]  # a candidate has it, too
    assert ips["centre"] == [CENTRE_IP]
    assert ips["bg-src"] == ["10.15.200.1"]
    assert ips["bg-sink"] == ["10.15.1.1", "10.15.1.2"]  # one for each cell
    macs = [h.mac for h in plan.hosts]
    assert len(set(macs)) == len(macs)


def test_host_routes_choose_the_source_by_slice(plan: Plan) -> None:
    batch = hosts.ip_batch(next(h for h in plan.hosts if h.name == "ue1")).splitlines()
    via = f"via {GATEWAY_IP} dev ue1-eth0 onlink"
    assert f"route add default {via} src 10.1.1.1" in batch
    assert f"route add 10.2.0.0/16 {via} src 10.2.1.1" in batch
    assert f"route add 10.0.0.0/16 {via} src 10.0.1.1" in batch


def test_only_links_with_a_rate_are_shaped_at_the_host(plan: Plan) -> None:
    by_name = {h.name: h for h in plan.hosts}
    assert hosts.shaping(by_name["edge1"]) is None
    assert "rate 30000kbit" in (hosts.shaping(by_name["cloud"]) or "")


def test_without_a_background_there_is_no_filler() -> None:
    assert not [h for h in plan_network(scenario(background=None)).hosts if h.kind == "background"]


class TestInventory:
    def test_cells_name_their_ports(self) -> None:
        found = inventory().cell("ap2")
        assert (found.down_port, found.up_port, found.core_port, found.air_port) == (1, 2, 2, 2)
        assert (found.down_kbps, found.up_kbps, found.edge) == (100_000, 100_000, "edge1")

    def test_hosts_do_not_list_services_or_the_collector(self) -> None:
        assert [a.ip for a in inventory().host("edge1").addresses] == ["10.0.0.10"]

    def test_users_start_at_the_strongest_cell(self) -> None:
        assert {u.ue_id: u.cell_id for u in inventory().users} == {"ue1": "ap1", "ue2": "ap2"}
        assert inventory().user("ue1").infrastructure_ip == "10.0.1.1"

    def test_ceilings_not_given(self) -> None:
        """Twice the guarantee for elastic, within the link; the guarantee for real-time."""
        (cell,) = inventory().initial_reservations
        rates = [(r.traffic_class, r.min_kbps, r.max_kbps) for r in cell.reservations]
        assert rates == [
            (TrafficClass.ELASTIC, 8000, 16_000),
            (TrafficClass.REAL_TIME, 2000, 2000),
        ]
        wide = [{"access_point": "ap1", "slice": "video", "min_mbps": 15}]
        (cell,) = inventory(initial_reservations=wide).initial_reservations
        assert cell.reservations[0].max_kbps == 20_000

    @pytest.mark.parametrize("policy", ["xapps", "model", "placebo"])
    def test_planners_start_from_the_initial_reservations(self, policy: Policy) -> None:
        assert inventory(policy).initial_reservations != []

    def test_none_starts_from_nothing(self) -> None:
        assert inventory("none").initial_reservations == []

    def test_static_starts_from_its_own(self) -> None:
        split = [{"access_point": "ap1", "slice": "video", "min_mbps": 11}]
        (cell,) = inventory("static", static_reservations=split).initial_reservations
        assert [r.min_kbps for r in cell.reservations] == [11_000]

    def test_static_without_a_split_is_refused(self) -> None:
        with pytest.raises(EmulationError, match="static_reservations"):
            inventory("static")


def test_every_port_and_queue_is_in_the_one_transaction(plan: Plan) -> None:
    words = transaction(plan, 6653, 0.9, slicing=True)
    assert words[0] == "add-br"
    for port in plan.ports:
        assert f"ofport_request={port.port_no}" in words[words.index(port.interface) :]
    assert words.count("create") == 4 * len(plan.queue_packets)  # a QoS row and three queues
    assert transaction(plan, 6653, 0.9, slicing=False).count("create") == 2 * len(
        plan.queue_packets
    )


def test_shipped_scenarios_have_a_plan() -> None:
    from topologies.checkout import REPOSITORY

    for path in sorted((REPOSITORY / "topologies" / "scenarios").glob("*.yaml")):
        plan_network(Scenario.model_validate(yaml.safe_load(path.read_text())))
