"""Packets through the compiled rules of a whole network, without a switch."""

from __future__ import annotations

import pytest

from controller.contracts.addressing import (
    CENTRE_IP,
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
    GATEWAY_IP,
    GATEWAY_MAC,
    session_ip,
)
from controller.contracts.slices import TrafficClass, dscp_of, queue_of
from controller.handover import plan
from controller.network_state import Attachment, NetworkState, initial_state
from controller.switch_program import Kind
from tests.emulated.networks import two_cells
from tests.pipeline.fake_network import FakeNetwork, arp_request, ipv4
from tests.planned_network import planned_inventory

INVENTORY = planned_inventory(two_cells(), {"ue1": "ap1", "ue2": "ap2"})
STREAM, TASK = (s.address for s in INVENTORY.services)
VIDEO, CONTROL = 1, 2
UE1_VIDEO, UE1_CONTROL, UE2_VIDEO = session_ip(1, 0), session_ip(2, 0), session_ip(1, 1)
ELASTIC = dscp_of(VIDEO, TrafficClass.ELASTIC)
REAL_TIME = dscp_of(CONTROL, TrafficClass.REAL_TIME)


@pytest.fixture
def net() -> FakeNetwork:
    return FakeNetwork(INVENTORY)


class TestPaths:
    def test_user_reaches_the_service_at_its_own_edge(self, net: FakeNetwork) -> None:
        journey = net.send("ue1", ipv4(UE1_VIDEO, STREAM))
        assert journey.path == ["air", "ap1"]
        packet = journey.delivered["edge1"]
        assert packet["ip_dscp"] == ELASTIC
        assert packet["eth_dst"] == INVENTORY.host("edge1").mac
        assert packet["eth_src"] == GATEWAY_MAC

    def test_answer_comes_back_through_the_cell_s_queue(self, net: FakeNetwork) -> None:
        journey = net.send("edge1", ipv4(STREAM, UE1_VIDEO))
        assert journey.path == ["ap1", "air"]
        assert journey.queues["ap1_1"] == queue_of(ELASTIC)
        assert journey.delivered["ue1"]["eth_dst"] == INVENTORY.host("ue1").mac

    def test_user_of_another_cell_reaches_the_edge_over_the_core(self, net: FakeNetwork) -> None:
        journey = net.send("ue2", ipv4(UE2_VIDEO, STREAM))
        assert journey.path == ["air", "ap2", "core", "ap1"]
        assert set(journey.delivered) == {"edge1"}

    def test_service_in_the_cloud(self, net: FakeNetwork) -> None:
        assert net.send("ue1", ipv4(UE1_CONTROL, TASK)).path == ["air", "ap1", "core"]
        back = net.send("cloud", ipv4(TASK, UE1_CONTROL))
        assert back.path == ["core", "ap1", "air"]
        assert back.queues["ap1_1"] == queue_of(REAL_TIME)

    def test_users_of_a_slice_reach_each_other_between_cells(self, net: FakeNetwork) -> None:
        journey = net.send("ue1", ipv4(UE1_VIDEO, UE2_VIDEO))
        assert journey.path == ["air", "ap1", "core", "ap2", "air"]
        assert set(journey.delivered) == {"ue2"}

    def test_users_of_a_cell_reach_each_other_through_its_access_point(self) -> None:
        net = FakeNetwork(planned_inventory(two_cells()))
        journey = net.send("ue1", ipv4(UE1_VIDEO, UE2_VIDEO))
        assert journey.path == ["air", "ap1", "air"]
        assert journey.queues["ap1_1"] == queue_of(ELASTIC)
        assert set(journey.delivered) == {"ue2"}

    def test_filler_reaches_its_sink_through_each_cell(self, net: FakeNetwork) -> None:
        source = INVENTORY.host("bg-src").addresses[0].ip
        for index, cell in enumerate(INVENTORY.cells):
            journey = net.send("bg-src", ipv4(source, session_ip(15, index)))
            assert journey.path == ["core", cell.switch, "air"]
            assert set(journey.delivered) == {"bg-sink"}
            assert journey.queues[f"{cell.switch}_{cell.down_port}"] == 2

    def test_aggregates_reach_the_centre(self, net: FakeNetwork) -> None:
        edge_ip = INVENTORY.host("edge1").addresses[0].ip
        journey = net.send("edge1", ipv4(edge_ip, CENTRE_IP, udp_dst=5600))
        assert set(journey.delivered) == {"centre"}

    @pytest.mark.parametrize("user, path", [("ue1", 2), ("ue2", 4)])
    def test_reports_reach_the_collector_of_the_serving_cell(
        self, net: FakeNetwork, user: str, path: int
    ) -> None:
        own = INVENTORY.user(user).infrastructure_ip
        report = ipv4(own, COLLECTOR_IP, udp_dst=COLLECTOR_UDP_PORT)
        journey = net.send(user, report)
        assert set(journey.delivered) == {"edge1"} and len(journey.path) == path
        assert journey.delivered["edge1"]["ip_dscp"] == 0
        answer = net.send("edge1", ipv4(COLLECTOR_IP, own, udp_dst=40000))
        assert set(answer.delivered) == {user}

    def test_traffic_that_is_no_service_s_gets_the_default_class(self, net: FakeNetwork) -> None:
        journey = net.send("ue1", ipv4(UE1_VIDEO, UE2_VIDEO, ip_dscp=46))
        assert journey.delivered["ue2"]["ip_dscp"] == ELASTIC


class TestPortSecurity:
    @pytest.mark.parametrize(
        "packet",
        [
            ipv4(UE2_VIDEO, STREAM),
            ipv4(UE1_VIDEO, STREAM, eth_src="02:00:00:00:00:77"),
            ipv4("8.8.8.8", STREAM),
            ipv4(INVENTORY.user("ue1").infrastructure_ip, CENTRE_IP, udp_dst=5600),
            ipv4(INVENTORY.user("ue1").infrastructure_ip, COLLECTOR_IP, udp_dst=22),
            arp_request(INVENTORY.host("ue1").mac, UE1_VIDEO, UE2_VIDEO),
            arp_request(INVENTORY.host("ue1").mac, UE2_VIDEO),
            arp_request("02:00:00:00:00:77", UE1_VIDEO),
        ],
    )
    def test_what_is_not_the_port_s_own_is_dropped_and_counted(
        self, net: FakeNetwork, packet: dict[str, object]
    ) -> None:
        journey = net.send("ue1", packet)
        assert journey.dropped == [("air", Kind.SECURITY)]
        assert net.total(Kind.SECURITY) == 1 and net.total(Kind.ENTER) == 0

    @pytest.mark.parametrize(
        "packet", [{"eth_type": 0x88CC}, {"eth_type": 0x8100}, ipv4(UE1_VIDEO, "224.0.0.251")]
    )
    def test_what_is_not_carried_is_dropped_and_counted(
        self, net: FakeNetwork, packet: dict[str, object]
    ) -> None:
        assert net.send("ue1", packet).dropped == [("air", Kind.UNSUPPORTED)]
        assert net.total(Kind.UNSUPPORTED) == 1

    def test_server_cannot_use_another_server_s_service(self, net: FakeNetwork) -> None:
        assert net.send("edge1", ipv4(TASK, UE1_CONTROL)).dropped == [("ap1", Kind.SECURITY)]

    def test_gateway_s_arp_is_answered_on_the_port(self, net: FakeNetwork) -> None:
        mac = INVENTORY.host("ue1").mac
        answer = net.send("ue1", arp_request(mac, UE1_VIDEO)).delivered["ue1"]
        assert (answer["arp_op"], answer["arp_spa"], answer["arp_sha"]) == (
            2, GATEWAY_IP, GATEWAY_MAC,
        )  # fmt: skip
        assert (answer["eth_dst"], answer["arp_tha"], answer["arp_tpa"]) == (mac, mac, UE1_VIDEO)


class TestIsolation:
    def test_crossing_from_one_slice_into_another_is_a_violation(self, net: FakeNetwork) -> None:
        journey = net.send("ue1", ipv4(UE1_VIDEO, TASK))
        assert journey.dropped == [("air", Kind.VIOLATION)] and not journey.delivered
        assert net.total(Kind.VIOLATION, VIDEO) == 1

    def test_from_a_slice_into_infrastructure_is_a_violation(self, net: FakeNetwork) -> None:
        assert net.send("ue1", ipv4(UE1_VIDEO, CENTRE_IP)).dropped == [("air", Kind.VIOLATION)]

    def test_a_server_cannot_cross_either(self, net: FakeNetwork) -> None:
        assert net.send("cloud", ipv4(TASK, UE2_VIDEO)).dropped == [("core", Kind.VIOLATION)]

    @pytest.mark.parametrize("source, target", [(UE1_CONTROL, UE1_VIDEO), (UE1_VIDEO, UE1_CONTROL)])
    def test_a_mark_that_does_not_fit_both_addresses_is_a_violation_between_switches(
        self, net: FakeNetwork, source: str, target: str
    ) -> None:
        marked = {**ipv4(source, target, ip_dscp=ELASTIC), "eth_src": "x", "eth_dst": "y"}
        core = net.switches["core"]
        assert core.receive(marked, INVENTORY.cell("ap1").core_port) == []
        assert core.dropped_by is Kind.VIOLATION

    def test_unknown_address_in_the_slice_is_a_miss_of_the_slice(self, net: FakeNetwork) -> None:
        journey = net.send("ue1", ipv4(UE1_VIDEO, session_ip(VIDEO, 99)))
        assert journey.dropped == [("core", Kind.MISS)]
        assert net.total(Kind.MISS, VIDEO) == 1

    def test_without_slicing_isolation_stays_and_nothing_is_marked(self) -> None:
        net = FakeNetwork(planned_inventory(two_cells(slicing=False)))
        assert all(not s.program.meters for s in net.switches.values())
        journey = net.send("cloud", ipv4(TASK, UE1_CONTROL))
        assert journey.delivered["ue1"]["ip_dscp"] == 0
        assert journey.queues["ap1_1"] is None
        assert net.send("ue1", ipv4(UE1_VIDEO, TASK)).dropped == [("air", Kind.VIOLATION)]


class TestMeters:
    def test_each_direction_passes_its_cell_s_meter_once(self, net: FakeNetwork) -> None:
        for host, packet in (
            ("ue2", ipv4(UE2_VIDEO, STREAM)),
            ("edge1", ipv4(STREAM, UE2_VIDEO)),
        ):
            for switch in net.switches.values():
                switch.metered.clear()
            net.send(host, packet)
            used = [
                switch.program.meters[m].use for switch in net.switches.values()
                for m in switch.metered
            ]  # fmt: skip
            assert [(u.cell_id, u.slice_id, u.direction) for u in used if u] == [
                ("ap2", VIDEO, "up" if host == "ue2" else "down")
            ]

    def test_between_users_of_a_cell_both_directions_count(self) -> None:
        net = FakeNetwork(planned_inventory(two_cells()))
        net.send("ue1", ipv4(UE1_VIDEO, UE2_VIDEO))
        assert len(net.switches["air"].metered) == 1 and len(net.switches["ap1"].metered) == 1

    def test_server_traffic_that_only_passes_an_access_point_is_not_metered(
        self, net: FakeNetwork
    ) -> None:
        net.send("edge1", ipv4(STREAM, UE2_VIDEO))
        assert net.switches["ap1"].metered == []

    def test_entered_equals_delivered_without_drops(self, net: FakeNetwork) -> None:
        net.send("ue1", ipv4(UE1_VIDEO, STREAM))
        net.send("edge1", ipv4(STREAM, UE1_VIDEO))
        assert net.total(Kind.ENTER, VIDEO) == net.total(Kind.DELIVER, VIDEO) == 2

    def test_user_limit_both_ways(self) -> None:
        document = two_cells()
        document["slices"][0]["user_max_mbps"] = 3
        net = FakeNetwork(planned_inventory(document))
        net.send("ue1", ipv4(UE1_VIDEO, STREAM))
        net.send("edge1", ipv4(STREAM, UE1_VIDEO))
        for name in ("air", "ap1"):
            switch = net.switches[name]
            limits = [switch.program.meters[m] for m in switch.metered]
            assert [m.rate_kbps for m in limits if m.use and m.use.ue_id == "ue1"] == [3000]


def states_of_handover(mode: str) -> list[NetworkState]:
    """Before, after every phase, in order; ue1 from ap1 to ap2."""
    net = FakeNetwork(INVENTORY)
    steps = plan(net.network, "ap1", "ap2", mode)  # type: ignore[arg-type]
    states = [net.state]
    for phase in (*steps.switching, *steps.clearing):
        states.append(states[-1].attached("ue1", phase.attachment))
    return states


class TestHandover:
    def test_make_before_break_always_has_a_path_both_ways(self) -> None:
        for state in states_of_handover("make_before_break"):
            net = FakeNetwork(INVENTORY, state)
            assert set(net.send("ue1", ipv4(UE1_VIDEO, STREAM)).delivered) == {"edge1"}
            assert set(net.send("edge1", ipv4(STREAM, UE1_VIDEO)).delivered) == {"ue1"}
            assert set(net.send("cloud", ipv4(TASK, UE1_CONTROL)).delivered) == {"ue1"}

    @pytest.mark.parametrize(("source", "target"), [("ap1", "ap2"), ("ap2", "ap1")])
    def test_every_switch_may_be_a_phase_behind(self, source: str, target: str) -> None:
        """Switches change one after the other, and only those that a phase names; the server
        `edge1` is at the source's switch the one time, at the target's the other."""
        first = initial_state(INVENTORY).attached("ue1", Attachment.at(source))
        net = FakeNetwork(INVENTORY, first)
        steps = plan(net.network, source, target, "make_before_break")
        for phase in (*steps.switching, *steps.clearing):
            changed = FakeNetwork(INVENTORY, first.attached("ue1", phase.attachment))
            for name in (name for group in phase.steps for name in group):
                net.switches[name] = changed.switches[name]
                assert set(net.send("ue1", ipv4(UE1_CONTROL, TASK)).delivered) == {"cloud"}
                assert set(net.send("cloud", ipv4(TASK, UE1_CONTROL)).delivered) == {"ue1"}
                assert set(net.send("ue1", ipv4(UE1_VIDEO, STREAM)).delivered) == {"edge1"}
                assert set(net.send("edge1", ipv4(STREAM, UE1_VIDEO)).delivered) == {"ue1"}
        final = FakeNetwork(INVENTORY, first.attached("ue1", steps.final))
        for name, switch in net.switches.items():
            assert switch.program == final.switches[name].program

    def test_afterwards_the_new_cell_serves_and_what_is_late_still_arrives(self) -> None:
        last = states_of_handover("make_before_break")[-1]
        net = FakeNetwork(INVENTORY, last)
        assert net.send("cloud", ipv4(TASK, UE1_CONTROL)).path == ["core", "ap2", "air"]
        assert net.send("ue1", ipv4(UE1_CONTROL, TASK)).path == ["air", "ap2", "core"]
        from_old_cell = INVENTORY.cell("ap1").air_port
        air = net.switches["air"]
        stray = {**ipv4(TASK, UE1_CONTROL, ip_dscp=REAL_TIME), "eth_src": "x", "eth_dst": "y"}
        assert air.receive(stray, from_old_cell) != [] and air.dropped_by is None

    def test_no_switch_keeps_a_drop_for_who_comes_back(self) -> None:
        """Open vSwitch would cache it and drop by it for a while after the user is back: at
        the old cell's switch and on the air, what comes that way goes on to the user."""
        last = states_of_handover("make_before_break")[-1]
        net, cell = FakeNetwork(INVENTORY, last), INVENTORY.cell("ap1")
        down = {**ipv4(TASK, UE1_CONTROL, ip_dscp=REAL_TIME), "eth_src": "x", "eth_dst": "y"}
        for switch, in_port in (("ap1", cell.up_port), ("air", cell.air_port)):
            assert net.switches[switch].receive(down, in_port) != []

    def test_what_was_on_its_way_to_the_core_comes_back_to_the_user(self) -> None:
        """Sent up by the server's switch before the user came there, at the core after."""
        final = initial_state(INVENTORY).attached("ue1", Attachment.at("ap1"))
        net, cell = FakeNetwork(INVENTORY, final), INVENTORY.cell("ap1")
        down = {**ipv4(STREAM, UE1_VIDEO, ip_dscp=ELASTIC), "eth_src": "x", "eth_dst": "y"}
        (back,) = net.switches["core"].receive(down, cell.core_port)
        assert back.port_no == cell.core_port
        (onward,) = net.switches["ap1"].receive(back.packet, cell.up_port)
        assert onward.port_no == cell.down_port

    def test_break_before_make_has_a_gap_that_is_counted(self) -> None:
        gap = states_of_handover("break_before_make")[1]
        net = FakeNetwork(INVENTORY, gap)
        assert net.send("ue1", ipv4(UE1_CONTROL, TASK)).dropped == [("air", Kind.MISS)]
        assert not net.send("cloud", ipv4(TASK, UE1_CONTROL)).delivered
        assert net.total(Kind.MISS, CONTROL) == 2
