"""The scenario's schema: one YAML file describes a whole experiment.

Pure data, checked by pydantic; cross-references are checked by `references.py`.
Loading with file and line in every error is `loader.py`'s work.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.contracts.inventory import Device, HandoverConfig, TwinConfig, XappPlacement
from controller.contracts.slices import USABLE_SLICE_IDS, Slice, Strict, TrafficClass
from topologies.scenario.radio import (
    Propagation,
    RadioSpec,
    RadioTrace,
    RsrpOnlyRadio,
    Tr38901Radio,
)
from topologies.scenario.references import BrokenScenario, broken_references

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,9}$")]
"""Hosts and switches: short, because interface names are limited to 15 characters."""
Positive = Annotated[float, Field(gt=0)]
PositionM = tuple[float, float]


class Link(Strict):
    """A wire. Delay and loss are each way; a link with either runs over netem or a wirefilter."""

    rate_mbps: Positive | None = None
    delay_ms: Annotated[float, Field(ge=0)] = 0.0
    loss_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    queue_packets: Annotated[int, Field(ge=10)] = 100


class SwitchLink(Link):
    """A redundant wire between two switches (access points, or one and the core).

    It carries nothing while every access point's own backhaul works; an access point
    whose backhaul fails reaches the core over it.
    """

    between: Annotated[list[Name], Field(min_length=2, max_length=2)]


class Server(Strict):
    name: Name
    kind: Literal["edge", "cloud"]
    attach: Name
    """The switch it hangs on."""
    link: Link = Link()
    memory_bytes: Annotated[int, Field(gt=0)] | None = None
    """What task services and network functions in it may hold together; none: no limit."""


class Centre(Strict):
    link: Link = Link()


class StaticMobility(Strict):
    kind: Literal["static"] = "static"
    position_m: PositionM


class LoopMobility(Strict):
    """Drives a closed polyline at constant speed, starting `offset_ratio` along it.

    The seed shifts the start by up to `start_jitter_ratio` of the loop, and all
    loops together by up to `seed_start_ratio` of theirs.
    """

    kind: Literal["loop"] = "loop"
    waypoints_m: Annotated[list[PositionM], Field(min_length=2)]
    speed_mps: Positive
    offset_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    start_jitter_ratio: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    seed_start_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0


Mobility = Annotated[StaticMobility | LoopMobility, Field(discriminator="kind")]


class AccessPoint(Strict):
    """A cell. `down_mbps` is its radio capacity, a queue tree towards the air.

    `uav` may move; `satellite` has its delay in `backhaul`; `wifi` is not cellular: its
    radio is computed from the same budget on its own carrier.
    """

    name: Name
    kind: Literal["mbs", "sbs", "uav", "satellite", "wifi"]
    position_m: PositionM
    mobility: Mobility | None = None
    """Of a `uav`; `position_m` is then where its maps show it."""
    tx_power_dbm: float
    antenna_gain_dbi: Annotated[float, Field(ge=0, le=60)] = 0.0
    frequency_ghz: Positive = 3.5
    bandwidth_mhz: Literal[5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100] = 100
    subcarrier_spacing_khz: Literal[15, 30] = 30
    antenna_height_m: Positive | None = None
    """Without one, the kind's: see `height_m`."""
    propagation: Propagation | None = None
    """Without one, the kind's: see `propagation_model`."""
    down_mbps: Positive
    up_mbps: Positive
    queue_packets: Annotated[int, Field(ge=10)] = 100
    edge: Name
    """Edge server whose local controller keeps the twins of this cell's users."""
    backhaul: Link = Link()

    @property
    def height_m(self) -> float:
        return self.antenna_height_m or ANTENNA_HEIGHT_M[self.kind]

    @property
    def propagation_model(self) -> Propagation:
        return self.propagation or PROPAGATION[self.kind]

    @model_validator(mode="after")
    def _radio_is_possible(self) -> AccessPoint:
        if self.mobility is not None and self.kind != "uav":
            raise ValueError(f"an access point of kind {self.kind} does not move; uav does")
        if self.subcarrier_spacing_khz == 15 and self.bandwidth_mhz > 50:
            raise ValueError(
                f"{self.bandwidth_mhz} MHz needs subcarrier_spacing_khz 30 (15 goes up to 50 MHz)"
            )
        if not 0.5 <= self.frequency_ghz <= 100:
            raise ValueError(
                f"frequency_ghz {self.frequency_ghz:g}: the radio models hold for 0.5-100 GHz"
            )
        fitted_m = {"uma": 25.0, "umi": 10.0}.get(self.propagation_model)
        if self.antenna_height_m is not None and fitted_m not in (None, self.antenna_height_m):
            raise ValueError(
                f"antenna_height_m {self.antenna_height_m:g}: {self.propagation_model} holds for "
                f"{fitted_m:g} m (TR 38.901 table 7.4.1-1)"
            )
        return self


ANTENNA_HEIGHT_M = {"mbs": 25.0, "sbs": 10.0, "uav": 100.0, "satellite": 550_000.0, "wifi": 3.0}
PROPAGATION: dict[str, Propagation] = {
    "mbs": "uma",
    "sbs": "umi",
    "uav": "free_space",
    "satellite": "free_space",
    "wifi": "inh",
}


class UserSpec(Strict):
    name: Name
    type: Literal["vehicle", "phone", "sensor", "robot", "uav-access-point"]
    slices: Annotated[list[str], Field(min_length=1)]
    """Slice names; the first is the session a plain socket uses."""
    mobility: Mobility
    handover: HandoverConfig | None = None
    """Its own; without one, the scenario's."""
    radio_trace: RadioTrace | None = None
    device: Device | None = None
    """Without one, the type's: see `DEVICES`."""

    @property
    def own_device(self) -> Device:
        return self.device or DEVICES[self.type]


DEVICES = {
    "vehicle": Device(compute_cores=0.5, cache_bytes=256 << 20),
    "phone": Device(compute_cores=0.2, cache_bytes=64 << 20),
    "sensor": Device(compute_cores=0.01, cache_bytes=64 << 10),
    "robot": Device(compute_cores=0.3, cache_bytes=32 << 20),
    "uav-access-point": Device(compute_cores=0.2, cache_bytes=64 << 20),
}


class ServiceSpec(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    slice: str
    traffic_class: TrafficClass
    host: Name
    candidates: list[Name] = []
    protocol: Literal["udp", "tcp"] = "udp"
    port: Annotated[int, Field(ge=1024, le=65535)]
    kind: Literal["flow", "task"] = "flow"
    """`task`: a server process with state that answers requests (see `requests`)."""
    state_bytes: Annotated[int, Field(ge=65_536, le=1 << 30)] = 1 << 20
    work_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    pages_per_request: Annotated[int, Field(ge=1, le=256)] = 4
    transfer_mbps: Positive | None = None


class RequestSpec(Strict):
    """Clients of a task service: each user sends requests and waits for each reply."""

    service: str
    users: Annotated[list[Name], Field(min_length=1)]
    rate_rps: Annotated[float, Field(gt=0, le=500)] = 20
    request_bytes: Annotated[int, Field(ge=64, le=1400)] = 200
    reply_bytes: Annotated[int, Field(ge=64, le=1400)] = 400
    alternatives: list[str] = []
    """Task services of the same slice that do the same work: `offload` may send requests there."""
    device_work_ms: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """What a request costs on the device itself; None: it cannot do the work."""
    timeout_ms: Annotated[int, Field(ge=10, le=10_000)] = 1000
    """A request without a reply after this time is lost; nothing is sent again."""


class ConstantDemand(Strict):
    shape: Literal["constant"] = "constant"
    mbps: Positive


class SwingDemand(Strict):
    """A trapezoid between `low` and `high`: the swing a static split cannot follow.

    One period: ramp up, stay high for `high_ratio` of it, ramp down, stay low.
    `phase_ratio` shifts it; the seed adds up to `phase_jitter_ratio` and a smooth
    multiplicative noise of relative size `noise_ratio`.  `seed_phase_ratio` is a
    shift of up to so much of the period that all swings of a seed share: seeds differ
    in when things happen, not in what happens together.
    """

    shape: Literal["swing"] = "swing"
    low_mbps: Positive
    high_mbps: Positive
    period_s: Positive
    ramp_s: Annotated[float, Field(ge=0)] = 2.0
    high_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    phase_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    phase_jitter_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    seed_phase_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise_ratio: Annotated[float, Field(ge=0, le=0.5)] = 0.05


Demand = Annotated[ConstantDemand | SwingDemand, Field(discriminator="shape")]


class TrafficSpec(Strict):
    """One flow for each listed user. `paced`: own UDP senders. `tcp`: iperf3, `mbps` its cap.

    Demand is L2 rate (frames), like every rate that a reservation is compared with.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    kind: Literal["paced", "tcp"] = "paced"
    service: str
    users: Annotated[list[Name], Field(min_length=1)]
    direction: Literal["down", "up"] = "down"
    packet_bytes: Annotated[int, Field(ge=64, le=1400)] = 1200
    """UDP payload."""
    demand: Demand


class ProbeSpec(Strict):
    """One-way-delay probes in each session, both directions, in the class of `service`."""

    service: str
    users: Annotated[list[Name], Field(min_length=1)]
    rate_pps: Annotated[float, Field(gt=0, le=1000)] = 50
    packet_bytes: Annotated[int, Field(ge=64, le=1400)] = 100


class Background(Strict):
    """Best-effort filler on every bottleneck, so that borrowing hides nothing."""

    rate_ratio: Annotated[float, Field(gt=0, le=2)] = 1.05
    packet_bytes: Annotated[int, Field(ge=64, le=1400)] = 1400


class ReservationSpec(Strict):
    access_point: Name
    slice: str
    min_mbps: Annotated[float, Field(ge=0)]
    max_mbps: Positive | None = None


class Scenario(Strict):
    """A whole experiment; every name in it refers to something declared in it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    description: str
    seed: Annotated[int, Field(ge=0)] = 1
    duration_s: Positive = 60
    warmup_s: Annotated[float, Field(ge=0)] = 5
    core: Name = "core"
    access_points: Annotated[list[AccessPoint], Field(min_length=1)]
    links: list[SwitchLink] = []
    """Second paths; none, and forwarding has no groups and wires no BFD."""
    servers: Annotated[list[Server], Field(min_length=1)]
    centre: Centre = Centre()
    slices: Annotated[list[Slice], Field(min_length=1, max_length=len(USABLE_SLICE_IDS))]
    users: Annotated[list[UserSpec], Field(min_length=1)]
    services: Annotated[list[ServiceSpec], Field(min_length=1)]
    traffic: list[TrafficSpec] = []
    probes: list[ProbeSpec] = []
    requests: list[RequestSpec] = []
    background: Background | None = None
    bottlenecks: list[Name] = []
    """Access points whose downlink is a bottleneck."""
    reservable_ratio: Annotated[float, Field(gt=0, le=1)] = 0.9
    initial_reservations: list[ReservationSpec] = []
    static_reservations: list[ReservationSpec] = []
    """Found by grid search on training seeds; policy `static` uses it."""
    radio: RadioSpec = RsrpOnlyRadio()
    handover: HandoverConfig = HandoverConfig()
    twins: TwinConfig = TwinConfig()
    xapps: list[XappPlacement] = []
    slicing: bool = True
    """False for negative tests: one shared queue, no meters."""
    datapath: Literal["auto", "kernel", "userspace"] = "auto"
    """Where packets are forwarded; auto: kernel mode where the machine has what it needs."""
    northbound_port: Annotated[int, Field(ge=1, le=65535)] = 8080

    @property
    def shapes_radio(self) -> bool:
        """Does the radio limit users' packets?"""
        traced = any(user.radio_trace is not None for user in self.users)
        return traced or isinstance(self.radio, Tr38901Radio)

    @model_validator(mode="after")
    def _references_resolve(self) -> Scenario:
        problems = broken_references(self.model_dump(mode="json"))
        if problems:
            raise BrokenScenario(problems)
        return self
