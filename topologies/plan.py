"""The plan: everything about the network that follows from the scenario alone.

Names, port numbers, dpids, addresses and rates of all switches, hosts and
links, as plain values; `network.py` builds it, `describe.py` tells the
controller about it.  Nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from controller.contracts.addressing import (
    CENTRE_IP,
    COLLECTOR_IP,
    edge_ip,
    host_mac,
    service_ip,
    session_ip,
)
from controller.contracts.inventory import Address, Port, PortRole, Switch, SwitchRole
from controller.contracts.slices import BACKGROUND_SLICE_ID, INFRASTRUCTURE_SLICE_ID
from topologies.errors import EmulationError
from topologies.scenario.schema import AccessPoint, Link, Scenario, Server, SwitchLink

AIR = "air"
CENTRE = "centre"
BACKGROUND_SOURCE = "bg-src"
BACKGROUND_SINK = "bg-sink"
_TAKEN_NAMES = frozenset({"lo", "ovs-netdev", BACKGROUND_SOURCE, BACKGROUND_SINK})

HostKind = Literal["ue", "edge", "cloud", "centre", "background"]


@dataclass(frozen=True)
class PlannedHost:
    """A host before it exists. `local_ips` are all /32 it answers to, in route order:

    the first of each slice is the source of what it sends in that slice; the
    first of all is the source of what a plain socket sends elsewhere.
    """

    name: str
    kind: HostKind
    mac: str
    addresses: tuple[Address, ...]
    local_ips: tuple[Address, ...]
    link: Link

    @property
    def interface(self) -> str:
        return f"{self.name}-eth0"


@dataclass(frozen=True)
class PlannedLink:
    """A wire between a switch port and a switch port or a host's interface."""

    left: Port
    right: Port | PlannedHost
    delay_ms: float
    loss_ratio: float

    @property
    def over_wire(self) -> bool:
        return self.delay_ms > 0 or self.loss_ratio > 0


@dataclass(frozen=True)
class Plan:
    switches: list[Switch]
    hosts: list[PlannedHost]
    ports: list[Port]
    links: list[PlannedLink]
    queue_packets: dict[str, int]
    """Interface of each port with a rate -> length of each of its queues."""
    watched: frozenset[str] = frozenset()
    """Interfaces whose wire BFD watches: those between switches that have a second path."""

    def port(self, switch: str, peer: str) -> Port:
        return next(p for p in self.ports if p.switch == switch and p.peer == peer)

    def port_of_host(self, host: str) -> Port:
        return next(p for p in self.ports if p.peer == host)


def plan_network(scenario: Scenario) -> Plan:
    """The plan of a scenario. Raises `EmulationError` for a name that is taken."""
    _refuse_taken_names(scenario)
    draft = _Draft(scenario)
    for ap in scenario.access_points:
        draft.join_access_point(ap)
    for link in scenario.links:
        draft.join_switches(link)
    watched = draft.wires_between_switches() if scenario.links else frozenset()
    hosts = list(_hosts(scenario))
    for host in hosts:
        draft.attach(host, _switch_of(host.name, scenario))
    switches = list(_switches(scenario))
    return Plan(switches, hosts, draft.ports, draft.links, draft.queue_packets, watched)


def _refuse_taken_names(scenario: Scenario) -> None:
    access_points = [ap.name for ap in scenario.access_points]
    servers = [server.name for server in scenario.servers]
    users = [user.name for user in scenario.users]
    for name in (scenario.core, *access_points, *servers, *users):
        if name in _TAKEN_NAMES:
            raise EmulationError(f"scenario {scenario.name}: the name {name!r} is reserved")


def _switches(scenario: Scenario) -> Iterator[Switch]:
    """Dpids: core 1, air 2, access points from 3 in the scenario's order."""
    yield Switch(name=scenario.core, dpid=1, role=SwitchRole.CORE)
    yield Switch(name=AIR, dpid=2, role=SwitchRole.AIR)
    for index, ap in enumerate(scenario.access_points):
        yield Switch(name=ap.name, dpid=3 + index, role=SwitchRole.ACCESS_POINT)


class _Draft:
    """Ports numbered from 1 on each switch, in the order in which links are added.

    So on an access point 1 is the air and 2 the core; on core and air the
    access points come first, in the scenario's order.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._core = scenario.core
        self._used: dict[str, int] = {}
        self.ports: list[Port] = []
        self.links: list[PlannedLink] = []
        self.queue_packets: dict[str, int] = {}

    def join_access_point(self, ap: AccessPoint) -> None:
        backhaul = ap.backhaul
        up_mbps = min(ap.up_mbps, backhaul.rate_mbps or ap.up_mbps)
        infrastructure = PortRole.INFRASTRUCTURE
        down = self._port(ap.name, AIR, infrastructure, ap.down_mbps, ap.queue_packets)
        air = self._port(AIR, ap.name, infrastructure)
        self.links.append(PlannedLink(down, air, 0.0, 0.0))
        delay_ms = backhaul.delay_ms
        up = self._port(ap.name, self._core, infrastructure, up_mbps, ap.queue_packets, delay_ms)
        core = self._port(
            self._core,
            ap.name,
            infrastructure,
            backhaul.rate_mbps,
            backhaul.queue_packets,
            delay_ms,
        )
        self.links.append(PlannedLink(up, core, backhaul.delay_ms, backhaul.loss_ratio))

    def join_switches(self, link: SwitchLink) -> None:
        """A second path, with the same queues at both ends."""
        first, second = link.between
        rate, packets = link.rate_mbps, link.queue_packets
        delay_ms = link.delay_ms
        left = self._port(first, second, PortRole.INFRASTRUCTURE, rate, packets, delay_ms)
        right = self._port(second, first, PortRole.INFRASTRUCTURE, rate, packets, delay_ms)
        self.links.append(PlannedLink(left, right, link.delay_ms, link.loss_ratio))

    def wires_between_switches(self) -> frozenset[str]:
        """Interfaces of all but the air's."""
        return frozenset(
            p.interface
            for p in self.ports
            if p.role is PortRole.INFRASTRUCTURE and AIR not in (p.switch, p.peer)
        )

    def attach(self, host: PlannedHost, switch: str) -> None:
        role = PortRole.USER if host.kind == "ue" else PortRole.SERVER
        link = host.link
        port = self._port(
            switch, host.name, role, link.rate_mbps, link.queue_packets, link.delay_ms
        )
        self.links.append(PlannedLink(port, host, link.delay_ms, link.loss_ratio))

    def _port(
        self,
        switch: str,
        peer: str,
        role: PortRole,
        rate_mbps: float | None = None,
        queue_packets: int = 0,
        delay_ms: float = 0.0,
    ) -> Port:
        port_no = self._used[switch] = self._used.get(switch, 0) + 1
        port = Port(
            switch=switch,
            port_no=port_no,
            # "_" occurs in no scenario name: never the name of a bridge.
            interface=f"{switch}_{port_no}",
            role=role,
            peer=peer,
            rate_kbps=None if rate_mbps is None else round(rate_mbps * 1000),
            delay_ms=delay_ms,
        )
        self.ports.append(port)
        if port.rate_kbps is not None:
            self.queue_packets[port.interface] = queue_packets
        return port


def edge_indices(scenario: Scenario) -> dict[str, int]:
    """Server name -> index of its slice-0 address: edges first, then clouds."""
    ordered = sorted(scenario.servers, key=lambda s: s.kind != "edge")
    return {server.name: index for index, server in enumerate(ordered)}


def service_addresses(scenario: Scenario) -> dict[str, Address]:
    """Service name -> its virtual address. Index 0 of slice 15 is the filler's."""
    slice_ids = {s.name: s.slice_id for s in scenario.slices}
    found: dict[str, Address] = {}
    for index, service in enumerate(scenario.services):
        slice_id = slice_ids[service.slice]
        found[service.name] = Address(slice_id=slice_id, ip=service_ip(slice_id, index))
    return found


def session_addresses(scenario: Scenario, user_index: int) -> list[Address]:
    """A user's sessions in the scenario's order, slice 0 not included."""
    slice_ids = {s.name: s.slice_id for s in scenario.slices}
    return [
        Address(slice_id=slice_ids[name], ip=session_ip(slice_ids[name], user_index))
        for name in scenario.users[user_index].slices
    ]


def _switch_of(host: str, scenario: Scenario) -> str:
    for server in scenario.servers:
        if server.name == host:
            return server.attach
    return scenario.core if host in (CENTRE, BACKGROUND_SOURCE) else AIR


def _hosts(scenario: Scenario) -> Iterator[PlannedHost]:
    """Users, servers, centre, filler; MACs by this order."""
    for index, parts in enumerate(_hosts_without_mac(scenario)):
        name, kind, addresses, extra, link = parts
        local = (*addresses, *extra)
        yield PlannedHost(name, kind, host_mac(index), tuple(addresses), local, link)


_HostParts = tuple[str, HostKind, list[Address], list[Address], Link]


def _hosts_without_mac(scenario: Scenario) -> Iterator[_HostParts]:
    for index, user in enumerate(scenario.users):
        infrastructure = _in_slice_0(session_ip(INFRASTRUCTURE_SLICE_ID, index))
        yield user.name, "ue", [*session_addresses(scenario, index), infrastructure], [], Link()
    for server in scenario.servers:
        own = [_in_slice_0(edge_ip(edge_indices(scenario)[server.name]))]
        anycast = [_in_slice_0(COLLECTOR_IP)] if server.kind == "edge" else []
        services = _services_on(server, scenario)
        yield server.name, server.kind, own, [*anycast, *services], server.link
    yield CENTRE, "centre", [_in_slice_0(CENTRE_IP)], [], scenario.centre.link
    if scenario.background is not None:
        source = Address(slice_id=BACKGROUND_SLICE_ID, ip=service_ip(BACKGROUND_SLICE_ID, 0))
        sinks = [
            Address(slice_id=BACKGROUND_SLICE_ID, ip=session_ip(BACKGROUND_SLICE_ID, cell))
            for cell in range(len(scenario.access_points))
        ]
        yield BACKGROUND_SOURCE, "background", [source], [], Link()
        yield BACKGROUND_SINK, "background", sinks, [], Link()


def _in_slice_0(ip: str) -> Address:
    return Address(slice_id=INFRASTRUCTURE_SLICE_ID, ip=ip)


def _services_on(server: Server, scenario: Scenario) -> list[Address]:
    """Virtual addresses of all services that this server serves or may come to serve."""
    addresses = service_addresses(scenario)
    return [
        addresses[service.name]
        for service in scenario.services
        if server.name in (service.host, *service.candidates)
    ]
