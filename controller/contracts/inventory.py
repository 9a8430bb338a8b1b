"""The inventory: what the emulation built, as the controller may know it.

Written by the emulation as `inventory.json` in the run folder once the
network stands, read by the controller's processes.  Facts only, no state: the
serving cell in it is where a user attached first.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.contracts.slices import Slice, SNssai, Strict, TrafficClass
from controller.contracts.twin_budget import TwinBudget


class SwitchRole(StrEnum):
    CORE = "core"
    ACCESS_POINT = "access_point"
    AIR = "air"


class PortRole(StrEnum):
    INFRASTRUCTURE = "infrastructure"
    """Between switches: DSCP is trusted."""
    USER = "user"
    SERVER = "server"
    """Edge, cloud and centre servers, and the filler: classified like users."""


class Port(Strict):
    """One OpenFlow port.  `rate_kbps` set means it has a queue tree of that rate."""

    switch: str
    port_no: int
    interface: str
    role: PortRole
    peer: str
    """Name of the switch or host at the other end."""
    rate_kbps: int | None = None
    delay_ms: float = 0.0
    """One way, of the wire at this port, as configured."""


class Switch(Strict):
    name: str
    dpid: int
    role: SwitchRole


class Address(Strict):
    slice_id: int
    ip: str


class Host(Strict):
    """A network namespace with one interface.  `pid` is a process living in it."""

    name: str
    kind: Literal["ue", "edge", "cloud", "centre", "background"]
    pid: int
    interface: str
    mac: str
    addresses: list[Address]
    """Own addresses, slice 0 included; service addresses are in `services`."""
    switch: str
    port_no: int
    memory_bytes: int | None = None
    """What service instances and network functions in it may hold together; None: no limit."""

    @property
    def netns_path(self) -> str:
        return f"/proc/{self.pid}/ns/net"


class Cell(Strict):
    """An access point's coverage: its switch, its ports, the edge that serves it."""

    cell_id: str
    kind: Literal["mbs", "sbs", "uav", "satellite", "wifi"]
    switch: str
    down_port: int
    """On the access point's switch, towards the air: the downlink bottleneck."""
    up_port: int
    """On the access point's switch, towards the core."""
    core_port: int
    """On the core switch, towards this access point."""
    air_port: int
    """On the air switch, towards this access point."""
    edge: str
    """Host whose local controller keeps the twins of this cell's users."""
    position_m: tuple[float, float]
    down_kbps: int
    up_kbps: int


class Device(Strict):
    """What a user's own device could compute and keep, as its twin tells it.

    Nothing runs on it yet, so nothing enforces it.
    """

    compute_cores: Annotated[float, Field(ge=0, le=64)]
    """In processor cores of the machine that emulates, the unit of services' `work_ms`."""
    cache_bytes: Annotated[int, Field(ge=0)]


class User(Strict):
    ue_id: str
    kind: str
    host: str
    infrastructure_ip: str
    sessions: list[Session]
    cell_id: str
    """Initial serving cell."""
    handover: HandoverConfig | None = None
    """Its own; None: the scenario's."""
    device: Device | None = None
    """None: an inventory that does not say."""


class Session(Strict):
    slice_id: int
    s_nssai: SNssai
    ip: str


DEVICE = "device"
"""Of `Service.places`: the user's own device."""


class Service(Strict):
    """A virtual address with one traffic class; `host` serves it, `candidates` may."""

    name: str
    slice_id: int
    address: str
    port: int
    protocol: Literal["udp", "tcp"]
    traffic_class: TrafficClass
    host: str
    candidates: list[str]
    kind: Literal["flow", "task"] = "flow"
    """`flow`: an address of senders and receivers. `task`: a server process with state."""
    state_bytes: int = 0
    work_ms: float = 0.0
    """Processor time a request costs its server."""
    pages_per_request: int = 4
    """4 KiB pages of the state that a request changes."""
    transfer_mbps: float | None = None
    """Pace of a migration's state on the wire; None: as fast as TCP finds."""
    users: list[str] = []
    """Who asks it, where the scenario has requests to it."""
    places: list[str] = []
    """Where its users' requests may be worked on: itself, task services that do the same, and
    `DEVICE` where the device can."""


class Reservation(Strict):
    """What a (slice, class) holds on a cell's downlink, L2 kbit/s.

    `min_kbps` is the queue's guaranteed rate, `max_kbps` its ceiling and the
    rate of the (cell, slice, class) meter.
    """

    slice_id: int
    traffic_class: TrafficClass
    min_kbps: int
    max_kbps: int


class CellReservations(Strict):
    cell_id: str
    reservations: list[Reservation]


class HandoverConfig(Strict):
    """When a user is handed over (event A3, TS 38.331 5.5.4.4), and how.

    Ranges are those of ReportConfigNR and MeasObjectNR (TS 38.331 6.3.2).
    """

    kind: Literal["make_before_break", "break_before_make"] = "make_before_break"
    interruption_ms: Annotated[int, Field(ge=0, le=5000)] = 0
    """Time without any radio link in break_before_make."""
    hysteresis_db: Annotated[float, Field(ge=0, le=15)] = 3.0
    time_to_trigger_ms: Annotated[int, Field(ge=0, le=5120)] = 640
    a3_offset_db: Annotated[float, Field(ge=-15, le=15)] = 0.0
    """Off: by how much more a neighbour must be better than the serving cell."""
    cell_offsets_db: dict[str, Annotated[float, Field(ge=-24, le=24)]] = {}
    """Ocn and Ocp (cellIndividualOffset) by cell: above 0 makes a cell preferred."""

    @model_validator(mode="after")
    def _interruption_needs_a_break(self) -> HandoverConfig:
        if self.interruption_ms and self.kind != "break_before_make":
            raise ValueError(
                f"interruption_ms {self.interruption_ms} needs kind break_before_make: "
                "make_before_break has none"
            )
        return self


class TwinConfig(Strict):
    report_period_ms: int = 500
    history_length: int = 60
    """Reports kept with a user's twin, and points of each attribute of a slice's or cell's."""
    budget: TwinBudget | None = None


class XappPlacement(Strict):
    name: str
    placement: str = "centre"
    config: dict[str, object] = {}


class Inventory(Strict):
    run_id: str
    scenario: str
    seed: int
    policy: Literal["xapps", "model", "static", "none", "placebo"]
    datapath: Literal["userspace", "kernel"]
    slicing: bool
    """False only for negative tests: one shared queue, no meters, isolation kept."""
    namespace: str
    """Network namespace of switches and Ryu."""
    openflow_tcp_port: int
    northbound_tcp_port: int
    centre_delay_ms: float
    """Configured one-way delay of the centre's link, stated with loop latency."""
    switches: list[Switch]
    ports: list[Port]
    hosts: list[Host]
    cells: list[Cell]
    users: list[User]
    services: list[Service]
    slices: list[Slice]
    bottlenecks: list[str]
    """Cell ids whose downlink is a bottleneck, for `reserved_mbps`."""
    initial_reservations: list[CellReservations]
    static_reservations: list[CellReservations]
    """Best fixed split (policy `static`); empty when the scenario has none."""
    reservable_ratio: float = 0.9
    """Share of a link's rate that reservations may sum up to."""
    handover: HandoverConfig
    twins: TwinConfig
    xapps: list[XappPlacement]

    def switch(self, name: str) -> Switch:
        return next(s for s in self.switches if s.name == name)

    def host(self, name: str) -> Host:
        return next(h for h in self.hosts if h.name == name)

    def cell(self, cell_id: str) -> Cell:
        return next(c for c in self.cells if c.cell_id == cell_id)

    def handover_of(self, ue_id: str) -> HandoverConfig:
        """The user's own configuration, else the scenario's."""
        return self.user(ue_id).handover or self.handover

    def user(self, ue_id: str) -> User:
        return next(u for u in self.users if u.ue_id == ue_id)

    def slice(self, slice_id: int) -> Slice:
        return next(s for s in self.slices if s.slice_id == slice_id)

    @classmethod
    def load(cls, path: Path) -> Inventory:
        return cls.model_validate_json(path.read_bytes())


User.model_rebuild()
Inventory.model_rebuild()
