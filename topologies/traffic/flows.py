"""The flow table: every stream of packets a scenario asks for, as plain data.

Pure: scenario + inventory -> list of `Flow`, the same list in every process that
asks, so a flow id means the same to senders, receivers and results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from controller.contracts.addressing import service_ip, session_ip
from controller.contracts.inventory import Inventory, Service
from controller.contracts.slices import BACKGROUND_SLICE_ID, TrafficClass
from topologies.scenario.schema import ConstantDemand, Demand, Scenario

L2_OVERHEAD_BYTES = 42
"""Ethernet 14 + IPv4 20 + UDP 8, without the frame check sequence, as OpenFlow meters count."""
USER_PORT_BASE = 20_000
BACKGROUND_SOURCE = "bg-src"
BACKGROUND_SINK = "bg-sink"

Direction = Literal["down", "up"]
Kind = Literal["paced", "probe", "filler", "tcp"]


@dataclass(frozen=True)
class Endpoint:
    host: str
    address: str
    port: int


@dataclass(frozen=True)
class Flow:
    """One stream. `demand` (L2 Mbit/s) drives paced, filler and tcp; `rate_pps` drives probes.

    `ue_id` is empty for filler; `cell_id` is set for filler only, whose bottleneck it fills.
    """

    flow_id: int
    name: str
    kind: Kind
    service: str
    slice_id: int
    traffic_class: TrafficClass
    ue_id: str
    cell_id: str
    direction: Direction
    sender: Endpoint
    receiver: Endpoint
    payload_bytes: int
    demand: Demand | None = None
    rate_pps: float | None = None

    @property
    def l2_bytes(self) -> int:
        return self.payload_bytes + L2_OVERHEAD_BYTES

    def metadata(self) -> dict[str, Any]:
        """What readers of the counters need to know of a flow, JSON ready."""
        return {
            "flow_id": self.flow_id,
            "name": self.name,
            "kind": self.kind,
            "service": self.service,
            "slice_id": self.slice_id,
            "traffic_class": self.traffic_class.value,
            "ue_id": self.ue_id,
            "cell_id": self.cell_id,
            "direction": self.direction,
            "payload_bytes": self.payload_bytes,
            "l2_bytes": self.l2_bytes,
            "rate_pps": self.rate_pps,
        }


def flows_of(scenario: Scenario, inventory: Inventory) -> list[Flow]:
    """Every flow of the scenario; index = flow id. Order: traffic, probes, filler."""
    flows: list[Flow] = []
    for make in (_traffic, _probes, _filler):
        flows.extend(make(scenario, inventory, len(flows)))
    return flows


def _traffic(scenario: Scenario, inventory: Inventory, first_id: int) -> Iterator[Flow]:
    flow_id = first_id
    for spec in scenario.traffic:
        service = _service(inventory, spec.service)
        for ue_id in spec.users:
            sender, receiver = _ends(inventory, service, ue_id, flow_id, spec.direction)
            yield Flow(
                flow_id=flow_id,
                name=f"{spec.name}-{ue_id}",
                kind=spec.kind,
                service=service.name,
                slice_id=service.slice_id,
                traffic_class=service.traffic_class,
                ue_id=ue_id,
                cell_id="",
                direction=spec.direction,
                sender=sender,
                receiver=receiver,
                payload_bytes=spec.packet_bytes,
                demand=spec.demand,
            )
            flow_id += 1


def _probes(scenario: Scenario, inventory: Inventory, first_id: int) -> Iterator[Flow]:
    flow_id = first_id
    directions: tuple[Direction, Direction] = ("down", "up")
    for spec in scenario.probes:
        service = _service(inventory, spec.service)
        for ue_id in spec.users:
            for direction in directions:
                sender, receiver = _ends(inventory, service, ue_id, flow_id, direction)
                yield Flow(
                    flow_id=flow_id,
                    name=f"{service.name}-{ue_id}-{direction}",
                    kind="probe",
                    service=service.name,
                    slice_id=service.slice_id,
                    traffic_class=service.traffic_class,
                    ue_id=ue_id,
                    cell_id="",
                    direction=direction,
                    sender=sender,
                    receiver=receiver,
                    payload_bytes=spec.packet_bytes,
                    rate_pps=spec.rate_pps,
                )
                flow_id += 1


def _filler(scenario: Scenario, inventory: Inventory, first_id: int) -> Iterator[Flow]:
    if scenario.background is None:
        return
    source = service_ip(BACKGROUND_SLICE_ID, 0)
    cell_index = {cell.cell_id: index for index, cell in enumerate(inventory.cells)}
    for flow_id, cell_id in enumerate(inventory.bottlenecks, start=first_id):
        capacity_mbps = inventory.cell(cell_id).down_kbps / 1000
        sink = session_ip(BACKGROUND_SLICE_ID, cell_index[cell_id])
        yield Flow(
            flow_id=flow_id,
            name=f"filler-{cell_id}",
            kind="filler",
            service="",
            slice_id=BACKGROUND_SLICE_ID,
            traffic_class=TrafficClass.BEST_EFFORT,
            ue_id="",
            cell_id=cell_id,
            direction="down",
            sender=Endpoint(BACKGROUND_SOURCE, source, USER_PORT_BASE + flow_id),
            receiver=Endpoint(BACKGROUND_SINK, sink, USER_PORT_BASE + flow_id),
            payload_bytes=scenario.background.packet_bytes,
            demand=ConstantDemand(mbps=scenario.background.rate_ratio * capacity_mbps),
        )


def _ends(
    inventory: Inventory,
    service: Service,
    ue_id: str,
    flow_id: int,
    direction: Direction,
) -> tuple[Endpoint, Endpoint]:
    """(sender, receiver). The user's port is the flow's own; the server's is the service's."""
    user = inventory.user(ue_id)
    addresses = [s.ip for s in user.sessions if s.slice_id == service.slice_id]
    if not addresses:
        raise ValueError(f"user {ue_id} has no session in slice {service.slice_id}")
    at_user = Endpoint(user.host, addresses[0], USER_PORT_BASE + flow_id)
    at_server = Endpoint(service.host, service.address, service.port)
    return (at_server, at_user) if direction == "down" else (at_user, at_server)


def _service(inventory: Inventory, name: str) -> Service:
    for service in inventory.services:
        if service.name == name:
            return service
    known = ", ".join(s.name for s in inventory.services)
    raise ValueError(f"unknown service {name!r}; known: {known}")
