"""Decisions: what an xApp asks for, and everything that became of it.

`POST /api/v1/decisions` takes a `DecisionRequest`, answers with a
`DecisionRecord`; the record's `effect` is filled in later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from controller.contracts.slices import SNssai, Strict, TrafficClass


class Action(StrEnum):
    RESERVE = "reserve"
    HANDOVER = "handover"
    ADMIT = "admit"
    COVER = "cover"
    MIGRATE = "migrate"
    SCHEDULE = "schedule"
    MIGRATE_TWIN = "migrate_twin"
    OFFLOAD = "offload"
    ADAPT_LINK = "adapt_link"
    CONFIGURE_TWIN = "configure_twin"


class Verdict(StrEnum):
    APPLIED = "applied"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


class Effect(StrEnum):
    PENDING = "pending"
    VERIFIED = "verified"
    REFUTED = "refuted"
    NOT_EXERCISED = "not_exercised"


class ReservationRequest(Strict):
    """L2 kbit/s on the cell's downlink. NaN and infinities never pass the schema."""

    s_nssai: SNssai
    traffic_class: TrafficClass | None = None
    """None: the slice's default class."""
    min_kbps: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    max_kbps: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    predicted_kbps: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """The xApp's median forecast, kept with the record for judging it."""


class DecisionRequest(Strict):
    """`target` and `parameters` by action:

    reserve, one slice: target {cell_id, s_nssai}, parameters {min_kbps, max_kbps}
    reserve, a cell's plan (atomic): target {cell_id},
    parameters {reservations: [ReservationRequest]}
    handover: target {ue_id}, parameters {cell_id}
    admit, a new slice: target {s_nssai}, parameters as `POST /api/v1/slices` takes them
    cover: target {s_nssai, cell_id}, parameters {covered, min_mbps, max_mbps}
    migrate: target {service}, parameters {host}; answered when the service runs there
    schedule: target {s_nssai}, parameters {shares: {ue_id: 0-1}}, all of them, together at
    most 1; of what the slice may send in the user's cell, downlink
    migrate_twin: target {ue_id}, parameters {edge}; a copy goes there ahead of a handover
    offload: target {ue_id, service}, parameters {to}: a place of the service (`/services`): itself,
    a service that does the same, or "device"; from the user's next request on
    adapt_link: target {ue_id}, parameters {max_cqi: 1-15 or null}; no modulation and coding above
    that CQI's, both ways, where the scenario's radio limits packets
    configure_twin: target one of {type}, {s_nssai: "sst-sd"}, {edge}, {ue_id}, {ue_ids: [...]},
    {slice_twin: "sst-sd"}; parameters `controller.contracts.twin_models.Changes`
    """

    decision_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Idempotence key; the RIC makes one when absent."""
    trace_id: Annotated[str, Field(min_length=1, max_length=64)]
    xapp: str
    action: Action
    target: dict[str, Any]
    parameters: dict[str, Any]
    based_on: list[str] = []
    valid_for_ms: Annotated[int, Field(gt=0)] = 1000
    dry_run: bool = False
    hops_ns: dict[str, int] = {}
    """CLOCK_REALTIME of hops before the RIC: twin_completed, aggregate_sent, inferred, ..."""


class Confirmation(Strict):
    """What one switch said: its barrier came back and the read-back matched, or not."""

    switch: str
    confirmed: bool
    detail: str = ""


class DecisionRecord(Strict):
    decision_id: str
    trace_id: str
    xapp: str
    action: Action
    target: dict[str, Any]
    parameters: dict[str, Any]
    based_on: list[str]
    verdict: Verdict
    reason: str = ""
    confirmations: list[Confirmation] = []
    diff: dict[str, Any] = {}
    """Flows, meters and queues that changed (or would, with dry_run)."""
    hops_ns: dict[str, int] = {}
    """twin_completed, aggregate_sent, aggregate_received, inferred, received,
    guarded, enforced, confirmed: CLOCK_REALTIME, one clock for all."""
    loop_latency_ms: float | None = None
    """twin_completed -> confirmed, less the configured delay of the centre's link."""
    effect: Effect = Effect.PENDING
    effect_detail: dict[str, Any] = {}
