"""Packets of a service through a network function: every one, both ways, both IP versions,
wherever user, function and service are, and at every moment while the function moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import yaml

from controller.contracts.slices import TrafficClass, dscp_of
from controller.function_chain import order
from controller.network_state import ChainedFunction, NetworkState, initial_state
from controller.network_view import network_of
from controller.rules import compile_switch
from controller.switch_program import Kind
from tests.pipeline.fake_network import FakeNetwork, Journey, ipv4, ipv6
from tests.pipeline.fake_switch import FakeSwitch, Sent
from tests.planned_network import planned_inventory
from topologies.scenario.loader import SCENARIOS_FOLDER

DOCUMENT = yaml.safe_load((SCENARIOS_FOLDER / "migration.yaml").read_text())
INVENTORY = planned_inventory(DOCUMENT, {"car1": "west", "car2": "east"})
NETWORK = network_of(INVENTORY)
SERVICES = {s.name: s for s in INVENTORY.services}
HOSTS = {"archive": "cloud", "assist1": "edge1", "assist2": "edge2"}
"""On the core, and at each access point."""
FUNCTION_HOSTS = ("compute1", "compute2")
"""On the core, and at the western access point."""
MOVES = list(product(HOSTS, (FUNCTION_HOSTS, FUNCTION_HOSTS[::-1])))
USERS = ("car1", "car2")
SESSIONS = {u.ue_id: u.sessions[0].ip for u in INVENTORY.users}
ASSIST = dscp_of(2, TrafficClass.REAL_TIME)
MOST_PASSES = 3

Packet = Callable[..., dict[str, Any]]
VERSIONS: tuple[Packet, ...] = (ipv4, ipv6)


def placed(service: str, host: str, draining: str | None = None) -> NetworkState:
    function = ChainedFunction("gate", service, host, draining=draining)
    return initial_state(INVENTORY).chained(function)


def travel(net: FakeNetwork, source: str, packet: dict[str, Any]) -> tuple[list[str], Journey]:
    """Function hosts that the packet passed, each forwarding it as its kernel does, and the
    last stretch of its way."""
    passed: list[str] = []
    journey = net.send(source, packet)
    while set(journey.delivered) & set(FUNCTION_HOSTS):
        (host,) = journey.delivered
        passed.append(host)
        assert len(passed) <= MOST_PASSES, f"round and round: {passed}"
        forwarded = {k: v for k, v in journey.delivered[host].items() if not k.startswith("eth_s")}
        mac = INVENTORY.host(host).mac
        gateway = journey.delivered[host]["eth_src"]
        journey = net.send(host, {**forwarded, "eth_src": mac, "eth_dst": gateway})
    return passed, journey


def both_ways(
    service: str, user: str, version: Packet
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(from host, to host, packet)."""
    address, ip, host = SERVICES[service].address, SESSIONS[user], HOSTS[service]
    user_host = NETWORK.users[user].host
    yield user_host, host, version(ip, address)
    yield host, user_host, version(address, ip)


@pytest.mark.parametrize(("service", "at"), list(product(HOSTS, FUNCTION_HOSTS)))
@pytest.mark.parametrize("version", VERSIONS)
def test_every_packet_passes_once_and_arrives_in_its_class(
    service: str, at: str, version: Packet
) -> None:
    net = FakeNetwork(INVENTORY, placed(service, at))
    for user in USERS:
        for source, sink, packet in both_ways(service, user, version):
            passed, journey = travel(net, source, packet)
            assert (passed, set(journey.delivered)) == ([at], {sink})
            assert journey.delivered[sink]["ip_dscp"] == ASSIST
    assert net.total(Kind.ENTER) == net.total(Kind.DELIVER) == 4


@pytest.mark.parametrize(("service", "moves"), MOVES)
def test_no_packet_goes_past_it_at_any_moment_of_a_move(
    service: str, moves: tuple[str, str]
) -> None:
    """Switches change one after the other: to the new place, then the old one forgotten."""
    old, new = moves
    states = [placed(service, old), placed(service, new, draining=old), placed(service, new)]
    net = FakeNetwork(INVENTORY, states[0])
    target = HOSTS[service]
    for before, after in zip(states, states[1:], strict=False):
        way = order(NETWORK, states[1].functions["gate"], target)
        for switch in way if after is states[1] else reversed(way):
            net.switches[switch] = FakeSwitch(compile_switch(NETWORK, after, switch))
            for user, version in product(USERS, VERSIONS):
                for source, sink, packet in both_ways(service, user, version):
                    passed, journey = travel(net, source, packet)
                    assert set(journey.delivered) == {sink}, (switch, journey)
                    assert passed, f"past the function when {switch} had changed"
        assert before is not after


class Changing(FakeNetwork):
    """One switch changes while a packet is under way, after so many hops."""

    change: Callable[[], None] | None = None
    hops_left = 0

    def _arrive(self, switch: str, out: Sent, journey: Journey) -> Any:
        self.hops_left -= 1
        if self.hops_left == 0 and self.change is not None:
            self.change()
        return super()._arrive(switch, out, journey)


@pytest.mark.parametrize(("service", "moves"), MOVES)
def test_no_packet_under_way_goes_past_it_while_it_moves(
    service: str, moves: tuple[str, str]
) -> None:
    """What is under way drains between two changes, so a packet meets one of them at most."""
    old, new = moves
    before, after = placed(service, old), placed(service, new, draining=old)
    way = order(NETWORK, after.functions["gate"], HOSTS[service])
    programs = {s: [compile_switch(NETWORK, state, s) for state in (before, after)] for s in way}
    for number, hops, user in product(range(len(way)), range(1, 6), USERS):
        for source, sink, packet in both_ways(service, user, ipv4):
            net = Changing(INVENTORY, before)
            net.switches |= {s: FakeSwitch(programs[s][1]) for s in way[:number]}
            changed = {way[number]: FakeSwitch(programs[way[number]][1])}
            net.hops_left, net.change = hops, lambda net=net, to=changed: net.switches.update(to)  # type: ignore[misc]
            passed, journey = travel(net, source, packet)
            assert set(journey.delivered) == {sink}
            assert passed, f"{source}: past it, as {way[number]} changed after {hops} hops"


@pytest.mark.parametrize(("service", "at"), list(product(HOSTS, FUNCTION_HOSTS)))
def test_no_packet_is_lost_while_it_is_placed_or_removed(service: str, at: str) -> None:
    without, with_it = initial_state(INVENTORY), placed(service, at)
    way = order(NETWORK, with_it.functions["gate"], HOSTS[service])
    at_function = NETWORK.hosts[at].switch
    removing = [*(s for s in reversed(way) if s != at_function), at_function]
    for first, after, switches in ((without, with_it, way), (with_it, without, removing)):
        net = FakeNetwork(INVENTORY, first)
        for switch in switches:
            net.switches[switch] = FakeSwitch(compile_switch(NETWORK, after, switch))
            for user, version in product(USERS, VERSIONS):
                for source, sink, packet in both_ways(service, user, version):
                    _, journey = travel(net, source, packet)
                    assert set(journey.delivered) == {sink}, (switch, journey)


def test_other_services_and_users_go_straight() -> None:
    net = FakeNetwork(INVENTORY, placed("archive", "compute2"))
    for user in USERS:
        for source, sink, packet in both_ways("assist1", user, ipv6):
            assert travel(net, source, packet)[0] == []
            assert set(travel(net, source, packet)[1].delivered) == {sink}
    journey = net.send("car1", ipv4(SESSIONS["car1"], SESSIONS["car2"]))
    assert set(journey.delivered) == {"car2"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_function_sends_nothing_of_its_own(version: Packet) -> None:
    """Only between the slice and its service, whatever runs in its server."""
    net = FakeNetwork(INVENTORY, placed("archive", "compute1"))
    other = SERVICES["assist1"].address
    for packet in (
        version(SESSIONS["car1"], other),
        version(other, SESSIONS["car1"]),
        version("10.5.1.1", SERVICES["archive"].address),
        version(SERVICES["archive"].address, "10.5.1.1"),
    ):
        journey = net.send("compute1", {**packet, "ip_dscp": ASSIST})
        assert journey.dropped == [("core", Kind.SECURITY)], packet


def test_a_user_s_meter_counts_an_answer_once() -> None:
    """The function sits at the user's own access point, which the answer crosses twice."""
    slices = [{**DOCUMENT["slices"][0], "user_max_mbps": 2}]
    inventory = planned_inventory({**DOCUMENT, "slices": slices}, {"car1": "west"})
    net = FakeNetwork(inventory, placed("archive", "compute2"))
    passed, _ = travel(net, "cloud", ipv4(SERVICES["archive"].address, SESSIONS["car1"]))
    assert passed == ["compute2"]
    of_users = [m for m in net.switches["west"].metered if m >= 8192]
    assert len(of_users) == 1
