"""Fake switches joined as the inventory says: a packet from host to host, hop by hop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controller.contracts.addressing import GATEWAY_IP, GATEWAY_MAC, ipv6_of
from controller.contracts.inventory import Inventory, Port, PortRole
from controller.network_state import NetworkState, initial_state
from controller.network_view import network_of
from controller.pipeline import ARP, IPV4, IPV6
from controller.rules import compile_network
from controller.switch_program import Kind
from tests.pipeline.fake_switch import FakeSwitch, Packet, Sent

_HOPS = 12


@dataclass
class Journey:
    """`path`: switches, `entered`: the ports by which it came to them. `delivered`: host ->
    packet as it arrived. `dropped`: (switch, why)."""

    path: list[str] = field(default_factory=list)
    entered: list[Port] = field(default_factory=list)
    queues: dict[str, int | None] = field(default_factory=dict)
    delivered: dict[str, Packet] = field(default_factory=dict)
    dropped: list[tuple[str, Kind | None]] = field(default_factory=list)


class FakeNetwork:
    def __init__(self, inventory: Inventory, state: NetworkState | None = None) -> None:
        self.inventory = inventory
        self.network = network_of(inventory)
        self.state = state or initial_state(inventory)
        programs = compile_network(self.network, self.state)
        self.switches = {name: FakeSwitch(program) for name, program in programs.items()}
        self._ports = {(p.switch, p.port_no): p for p in inventory.ports}
        self._dead: set[tuple[str, int]] = set()

    def send(self, host_name: str, packet: Packet) -> Journey:
        """Put a frame on the host's port."""
        host = self.inventory.host(host_name)
        journey = Journey()
        frame = {"eth_src": host.mac, "eth_dst": GATEWAY_MAC, **packet}
        waiting = [(host.switch, host.port_no, frame)]
        while waiting:
            switch, in_port, frame = waiting.pop()
            journey.path.append(switch)
            journey.entered.append(self._ports[switch, in_port])
            assert len(journey.path) <= _HOPS, f"loop: {journey.path}"
            sent = self.switches[switch].receive(frame, in_port)
            if not sent:
                journey.dropped.append((switch, self.switches[switch].dropped_by))
            for out in sent:
                waiting += self._arrive(switch, out, journey)
        return journey

    def _arrive(
        self, switch: str, out: Sent, journey: Journey
    ) -> list[tuple[str, int, dict[str, Any]]]:
        port = self._ports[switch, out.port_no]
        journey.queues[port.interface] = out.queue_id
        if port.role is not PortRole.INFRASTRUCTURE:
            journey.delivered[port.peer] = out.packet
            return []
        if (switch, port.port_no) in self._dead:
            return []
        other = self._other_end(port)
        return [(other.switch, other.port_no, dict(out.packet))]

    def _other_end(self, port: Port) -> Port:
        """The n-th port of a to b is joined to the n-th port of b to a."""
        here, there = (
            [p for p in self.inventory.ports if p.switch == a and p.peer == b]
            for a, b in ((port.switch, port.peer), (port.peer, port.switch))
        )
        return there[here.index(port)]

    def cut(self, switch: str, port_no: int) -> None:
        """The wire at this port is dead, and both its ends know."""
        port = self._ports[switch, port_no]
        for end in (port, self._other_end(port)):
            self._dead.add((end.switch, end.port_no))
            self.switches[end.switch].dead_ports.add(end.port_no)

    def mend(self) -> None:
        """All wires work."""
        self._dead.clear()
        for switch in self.switches.values():
            switch.dead_ports.clear()

    def total(self, kind: Kind, slice_id: int | None = None) -> int:
        return sum(s.count(kind, slice_id) for s in self.switches.values())


def ipv4(source: str, destination: str, **fields: Any) -> dict[str, Any]:
    return {
        "eth_type": IPV4,
        "ipv4_src": source,
        "ipv4_dst": destination,
        "ip_dscp": 0,
        "ip_proto": 17,
        "udp_dst": 5001,
        **fields,
    }


def ipv6(source: str, destination: str, **fields: Any) -> dict[str, Any]:
    """Between the IPv6 twins of two addresses."""
    return {
        "eth_type": IPV6,
        "ipv6_src": ipv6_of(source),
        "ipv6_dst": ipv6_of(destination),
        "ip_dscp": 0,
        "ip_proto": 17,
        "udp_dst": 5001,
        **fields,
    }


def arp_request(mac: str, own_ip: str, wanted_ip: str = GATEWAY_IP) -> dict[str, Any]:
    return {
        "eth_type": ARP,
        "eth_dst": "ff:ff:ff:ff:ff:ff",
        "arp_op": 1,
        "arp_sha": mac,
        "arp_tha": "00:00:00:00:00:00",
        "arp_spa": own_ip,
        "arp_tpa": wanted_ip,
    }
