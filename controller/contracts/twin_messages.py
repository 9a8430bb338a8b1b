"""Messages that keep twins in step; each is one UDP datagram of JSON (orjson).

`UserReport`: user agent -> local controller (slice 0, to the collector's
anycast address).  `CellAggregate`: local controller -> centre (slice 0).
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


class FlowReport(Strict):
    """What the user saw of one flow in the last report period (downlink unless `up`).

    `demand_kbps` is inferred by the receiver from sequence numbers (received
    plus missing), so it is what the sender tried to send, L2 kbit/s; for a flow
    that the user sends (`up`) it is what its application offered.
    """

    service: str
    slice_id: int
    up: bool
    demand_kbps: float
    goodput_kbps: float
    loss_ratio: float
    owd_p95_ms: float | None = None


class UserReport(Strict):
    ue_id: str
    kind: str
    sequence: int
    """From 1, one per period; the twin's version follows it."""
    window: int
    """Which period this report describes: the last whole one before it was measured,
    floor(measured_at / period) - 1."""
    measured_at_ns: int
    period_ms: int
    cell_id: str
    rsrp_dbm: dict[str, float]
    """Per cell, as the user measures it; empty when the twin model does not ask for it now."""
    position_m: tuple[float, float] | None = None
    speed_mps: float | None = None
    """None: the twin model does not ask for it in this report."""
    rsrq_db: float | None = None
    """This and the next four: of the serving cell, where the radio model knows them."""
    snr_db: float | None = None
    cqi: int | None = None
    """TS 38.214 table 5.2.2.1-2; 0: out of range."""
    down_kbps: float | None = None
    """What the radio link carries at most."""
    up_kbps: float | None = None
    heading_deg: Annotated[float, Field(ge=0, le=360, allow_inf_nan=False)] | None = None
    """This and the next two: use-case data, where the twin model asks for them.  Course over
    ground, clockwise from the y axis; None while the user stands."""
    odometer_m: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Distance moved since its agent started."""
    operations: Annotated[int, Field(ge=0)] | None = None
    """Messages its applications sent and received since traffic started: its log's length."""
    flows: list[FlowReport]
    settings_version: int = 0
    """Of the twin model's settings that the agent works by; 0: none has reached it yet."""
    batch_reports: int = 1
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
