"""IPv6 beside IPv4: the same paths, classes, refusals and counters; rules that stay linear."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts.addressing import (
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
    ipv6_of,
    service_ip,
    session_ip,
    slice_prefix_ipv6,
)
from controller.contracts.inventory import Inventory
from controller.contracts.slices import TrafficClass, dscp_of, queue_of
from controller.network_state import initial_state
from controller.network_view import network_of
from controller.rules import compile_switch
from controller.switch_program import Kind
from controller.user_bytes import UserBytes
from tests.emulated.networks import two_cells
from tests.pipeline.fake_network import FakeNetwork, ipv4, ipv6
from tests.planned_network import planned_inventory

INVENTORY = planned_inventory(two_cells(), {"ue1": "ap1", "ue2": "ap2"})
STREAM, TASK = (s.address for s in INVENTORY.services)
UE1_VIDEO, UE1_CONTROL, UE2_VIDEO = session_ip(1, 0), session_ip(2, 0), session_ip(1, 1)
ELASTIC = dscp_of(1, TrafficClass.ELASTIC)
ND = {"ip_proto": 58}


@pytest.fixture
def net() -> FakeNetwork:
    return FakeNetwork(INVENTORY)


def summary(net: FakeNetwork, host: str, packet: dict[str, Any]) -> dict[str, Any]:
    journey = net.send(host, packet)
    arrived = {name: p["ip_dscp"] for name, p in journey.delivered.items()}
    return {
        "path": journey.path, "queues": journey.queues, "arrived": arrived,
        "dropped": journey.dropped,
    }  # fmt: skip


class TestAddresses:
    def test_the_twin_has_the_same_digits(self) -> None:
        assert ipv6_of(session_ip(3, 260)) == "fd48:6f6c:3::2:11"
        assert ipv6_of(service_ip(14, 0)) == "fd48:6f6c:14::200:1"
        assert slice_prefix_ipv6(0) == "fd48:6f6c::/48"

    def test_no_two_addresses_share_a_twin(self) -> None:
        own = [session_ip(s, u) for s in range(16) for u in range(0, 25_000, 49)]
        own += [service_ip(s, u) for s in range(16) for u in range(0, 5000, 49)]
        assert len({ipv6_of(ip) for ip in own}) == len(own)

    def test_an_address_outside_the_plan_has_none(self) -> None:
        with pytest.raises(ValueError, match="192.0.2.1 is not an address of 10.0.0.0/8"):
            ipv6_of("192.0.2.1")


class TestSameAsIpv4:
    @pytest.mark.parametrize(
        "host, source, destination",
        [
            ("ue1", UE1_VIDEO, STREAM),
            ("edge1", STREAM, UE1_VIDEO),
            ("ue2", UE2_VIDEO, STREAM),
            ("cloud", TASK, UE1_CONTROL),
            ("ue1", UE1_VIDEO, UE2_VIDEO),
            ("bg-src", service_ip(15, 0), session_ip(15, 1)),
            ("bg-sink", session_ip(15, 1), service_ip(15, 0)),
            ("ue1", UE1_VIDEO, TASK),
            ("ue1", UE2_VIDEO, STREAM),
            ("edge1", TASK, UE1_CONTROL),
            ("ue1", UE1_VIDEO, session_ip(1, 99)),
        ],
    )
    @pytest.mark.parametrize("dscp", [0, 46])
    def test_path_class_queue_and_verdict(
        self, net: FakeNetwork, host: str, source: str, destination: str, dscp: int
    ) -> None:
        expected = summary(net, host, ipv4(source, destination, ip_dscp=dscp))
        assert summary(net, host, ipv6(source, destination, ip_dscp=dscp)) == expected

    def test_reports_may_be_ipv6(self, net: FakeNetwork) -> None:
        own = INVENTORY.user("ue2").infrastructure_ip
        report = ipv6(own, COLLECTOR_IP, udp_dst=COLLECTOR_UDP_PORT)
        assert set(net.send("ue2", report).delivered) == {"edge1"}
        assert net.send("ue2", ipv6(own, COLLECTOR_IP, udp_dst=22)).dropped

    def test_last_hop_and_class(self, net: FakeNetwork) -> None:
        journey = net.send("ue1", ipv6(UE1_VIDEO, STREAM, ip_dscp=46))
        packet = journey.delivered["edge1"]
        assert packet["eth_dst"] == INVENTORY.host("edge1").mac
        assert packet["ip_dscp"] == ELASTIC
        back = net.send("edge1", ipv6(STREAM, UE1_VIDEO))
        assert back.queues["ap1_1"] == queue_of(ELASTIC)

    def test_without_slicing_too(self) -> None:
        net = FakeNetwork(planned_inventory(two_cells(slicing=False)))
        assert net.send("ue1", ipv6(UE1_VIDEO, STREAM)).delivered["edge1"]["ip_dscp"] == 0
        assert net.send("ue1", ipv6(UE1_VIDEO, TASK)).dropped == [("air", Kind.VIOLATION)]

    def test_user_meters_hold_for_both(self) -> None:
        document = two_cells()
        document["slices"][0]["user_max_mbps"] = 2
        net = FakeNetwork(planned_inventory(document))
        for packet in (ipv4(STREAM, UE1_VIDEO), ipv6(STREAM, UE1_VIDEO)):
            net.send("edge1", packet)
        first, second = (net.switches["ap1"].metered[i::2] for i in (0, 1))
        assert first[0] == first[1] and second[0] == second[1]

    def test_a_user_s_bytes_are_counted_together(self) -> None:
        air = INVENTORY.cell("ap1").air_port
        rules = [
            {"match": {"in_port": air, "ipv4_dst": UE1_VIDEO}, "bytes": 100},
            {"match": {"in_port": air, "ipv6_dst": ipv6_of(UE1_VIDEO)}, "bytes": 20},
        ]
        counted = UserBytes()
        counted.add(network_of(INVENTORY), {"air": {"users": rules}})
        assert counted.totals() == {("ue1", "ap1"): 120}


class TestRefused:
    @pytest.mark.parametrize("icmpv6_type", [133, 134, 135, 136, 137])
    def test_neighbour_discovery_even_with_own_addresses(
        self, net: FakeNetwork, icmpv6_type: int
    ) -> None:
        packet = ipv6(UE1_VIDEO, UE2_VIDEO, **ND, icmpv6_type=icmpv6_type)
        assert net.send("ue1", packet).dropped == [("air", Kind.SECURITY)]

    @pytest.mark.parametrize("icmpv6_type", [130, 131, 132, 143])
    def test_multicast_listener_reports(self, net: FakeNetwork, icmpv6_type: int) -> None:
        packet = ipv6(UE1_VIDEO, UE2_VIDEO, **ND, icmpv6_type=icmpv6_type)
        assert net.send("ue1", packet).dropped == [("air", Kind.UNSUPPORTED)]

    def test_ping_passes(self, net: FakeNetwork) -> None:
        assert net.send("ue1", ipv6(UE1_VIDEO, STREAM, **ND, icmpv6_type=128)).delivered

    @pytest.mark.parametrize("address", ["fe80::1", "2001:db8::1", "::"])
    def test_sources_of_nobody(self, net: FakeNetwork, address: str) -> None:
        packet = {**ipv6(UE1_VIDEO, STREAM), "ipv6_src": address}
        assert net.send("ue1", packet).dropped == [("air", Kind.SECURITY)]

    def test_multicast(self, net: FakeNetwork) -> None:
        packet = {**ipv6(UE1_VIDEO, STREAM), "ipv6_dst": "ff02::1"}
        assert net.send("ue1", packet).dropped == [("air", Kind.UNSUPPORTED)]

    @pytest.mark.parametrize("make", [ipv4, ipv6])
    @pytest.mark.parametrize("vlan_vid", [0x1000, 0x1001, 0x1FFF])
    def test_tagged_frames_that_would_be_lawful_without(
        self, net: FakeNetwork, make: Any, vlan_vid: int
    ) -> None:
        packet = make(UE1_VIDEO, STREAM, vlan_vid=vlan_vid)
        assert net.send("ue1", packet).dropped == [("air", Kind.UNSUPPORTED)]


def users(count: int) -> Inventory:
    document = two_cells()
    first = document["users"][0]
    document["users"] = [{**first, "name": f"u{i}"} for i in range(count)]
    return planned_inventory(document)


@pytest.mark.parametrize("switch, rules", [("air", 25), ("ap1", 6), ("core", 6)])
def test_a_user_of_two_slices_costs_a_switch_this_many_rules(switch: str, rules: int) -> None:
    """Three addresses: two rules each per switch on the path; on the air port security
    (IPv4, IPv6, ARP), delivery from its cell and from any, and the way up besides."""
    sizes = []
    for count in (8, 16, 32):
        inventory = users(count)
        program = compile_switch(network_of(inventory), initial_state(inventory), switch)
        sizes.append(len(program.flows))
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    assert (sizes[1] - sizes[0]) / 8 == rules
