"""Messages that keep twins in step, each in UDP datagrams of slice 0.

`UserReport`: user agent -> local controller, to the collector's anycast address, as JSON.
`CellAggregate`: local controller -> centre, packed (`aggregate_wire`).
Times are CLOCK_REALTIME nanoseconds unless the name says monotonic; one
machine, so clocks agree between namespaces.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controller.contracts.slices import Strict

MAX_REPORT_BYTES = 4096
"""Of a datagram; a longer one is refused by the local controller."""
MAX_BATCH_REPORTS = 32
MIN_REPORT_PERIOD_MS = 20
MAX_REPORT_PERIOD_MS = 60_000
MAX_SEQUENCE = 2**53
MAX_RATE_KBPS = 1e9

# What a user can have measured; a value in another unit is mostly outside.
RateKbps = Annotated[float, Field(ge=0, le=MAX_RATE_KBPS, allow_inf_nan=False)]
PowerDbm = Annotated[float, Field(ge=-200, le=50, allow_inf_nan=False)]
QualityDb = Annotated[float, Field(ge=-200, le=200, allow_inf_nan=False)]
DistanceM = Annotated[float, Field(ge=-1e8, le=1e8, allow_inf_nan=False)]
SpeedMps = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
DelayMs = Annotated[float, Field(ge=0, le=60_000, allow_inf_nan=False)]
LossRatio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class FlowReport(Strict):
    """What the user saw of one flow in the last report period (downlink unless `up`).

    `demand_kbps` is inferred by the receiver from sequence numbers (received
    plus missing), so it is what the sender tried to send, L2 kbit/s; for a flow
    that the user sends (`up`) it is what its application offered.
    """

    service: str
    slice_id: int
    up: bool
    demand_kbps: RateKbps
    goodput_kbps: RateKbps
    loss_ratio: LossRatio
    owd_p95_ms: DelayMs | None = None


class UserReport(Strict):
    ue_id: str
    kind: str
    sequence: Annotated[int, Field(ge=1, le=MAX_SEQUENCE)]
    """One more per period; the twin's version follows it."""
    window: Annotated[int, Field(ge=-1, lt=2**63)]
    """Which period this report describes: the last whole one before it was measured,
    floor(measured_at / period) - 1."""
    measured_at_ns: Annotated[int, Field(ge=0, lt=2**63)]
    period_ms: Annotated[int, Field(ge=MIN_REPORT_PERIOD_MS, le=MAX_REPORT_PERIOD_MS)]
    cell_id: str
    rsrp_dbm: dict[str, PowerDbm]
    """Per cell, as the user measures it; empty when the twin model does not ask for it now."""
    position_m: tuple[DistanceM, DistanceM] | None = None
    speed_mps: SpeedMps | None = None
    """None: the twin model does not ask for it in this report."""
    rsrq_db: QualityDb | None = None
    """This and the next four: of the serving cell, where the radio model knows them."""
    snr_db: QualityDb | None = None
    cqi: Annotated[int, Field(ge=0, le=15)] | None = None
    """TS 38.214 table 5.2.2.1-2; 0: out of range."""
    down_kbps: RateKbps | None = None
    """What the radio link carries at most."""
    up_kbps: RateKbps | None = None
    heading_deg: Annotated[float, Field(ge=0, le=360, allow_inf_nan=False)] | None = None
    """This and the next two: use-case data, where the twin model asks for them.  Course over
    ground, clockwise from the y axis; None while the user stands."""
    odometer_m: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None = None
    """Distance moved since its agent started."""
    operations: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Messages its applications sent and received since traffic started: its log's length."""
    flows: list[FlowReport]
    settings_version: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the twin model's settings that the agent works by; 0: none has reached it yet."""
    batch_reports: Annotated[int, Field(ge=1, le=MAX_BATCH_REPORTS)] = 1
    """Reports in a datagram (lines of JSON), so when the next one is due."""


class SliceDemand(Strict):
    """One slice in one cell in one window, summed over its users' twins."""

    slice_id: int
    users: int
    demand_kbps: float
    goodput_kbps: float
    loss_ratio: float
    owd_p95_ms: float | None


class CellAggregate(Strict):
    """All slices of one cell for one window: the input of slice twins."""

    trace_id: str
    edge: str
    cell_id: str
    window: int
    period_ms: int
    completed_at_ns: int
    """When the twin update that completed this aggregate arrived (loop latency starts)."""
    sent_at_ns: int
    users_reported: int
    users_expected: int
    slices: list[SliceDemand]
