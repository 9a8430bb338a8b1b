"""Shapes of the northbound API's own documents; their keys are a contract.

Decisions, confirmations and slices have their shapes in `controller.contracts`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from controller.contracts.decisions import Confirmation
from controller.contracts.live_slices import LiveSlice
from controller.contracts.slices import SliceSla, SNssai, Strict
from controller.xapp_descriptor import XappName

XappFolder = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00]+$")]


class ErrorDocument(BaseModel):
    """`error` says what was wrong, `hint` what would be right."""

    error: str
    hint: str


class SessionDocument(BaseModel):
    s_nssai: SNssai
    ip: str
    ipv6: str


class UeDocument(BaseModel):
    """`cell_id`: where the user is served now."""

    ue_id: str
    kind: str
    cell_id: str
    sessions: list[SessionDocument]


class ReservedDocument(BaseModel):
    cell_id: str
    traffic_class: str
    min_kbps: int
    max_kbps: int


class SliceDocument(BaseModel):
    """`cells`: those that carry the slice; `users`: who has a session in it."""

    s_nssai: SNssai
    name: str
    sla: SliceSla
    reserved: list[ReservedDocument]
    cells: list[str]
    slice_id: int
    default_class: str
    users: list[str]
    user_max_mbps: float | None


class RoomDocument(BaseModel):
    """A link and what a slice asks of it; `promised_kbps` to others, by slice."""

    link: str
    fits: bool
    asked_kbps: int
    left_kbps: int
    reservable_kbps: int
    link_kbps: int
    promised_kbps: dict[str, int]
    share_kbps: int | None


class SliceChangeDocument(BaseModel):
    """What became (with `dry_run`: would become) of a slice; `diff` by switch and interface."""

    kind: str
    dry_run: bool
    slice: LiveSlice
    slice_id: int
    admission: list[RoomDocument]
    confirmations: list[Confirmation]
    diff: dict[str, Any]
    elapsed_ms: float
    steps_ms: dict[str, float]


class CellDocument(BaseModel):
    """`reserved_kbps`: sum of the guaranteed rates of all its queues' holders."""

    cell_id: str
    kind: str
    edge: str
    capacity_kbps: int
    reservable_kbps: int
    reserved_kbps: int
    users: list[str]
    position_m: tuple[float, float]


class ServiceDocument(BaseModel):
    name: str
    s_nssai: SNssai
    host: str
    address: str
    ipv6: str
    port: int
    protocol: str
    traffic_class: str
    kind: Literal["flow", "task"]
    candidates: list[str]
    """Servers it may run in."""
    state_bytes: int
    transfer_mbps: float | None
    users: list[str]
    """Who asks it."""
    places: dict[str, str]
    """ue_id -> where its tasks for this service are worked on: a service, or `device`."""


class TwinSummary(BaseModel):
    kind: Literal["user", "slice", "cell"]
    id: str
    version: int
    age_ms: float | None


class TwinDocument(TwinSummary):
    """Slices and cells: name -> value, unit, measured_at, age_ms, period_ms, source, predicted."""

    attributes: dict[str, dict[str, Any]]


class PointDocument(BaseModel):
    """As recorded, or aggregated: then `window` is null, `measured_at` the step's beginning."""

    window: int | None
    measured_at: int
    value: float | None
    samples: int | None = None


class XappDocument(BaseModel):
    """`reason`: why it is not running; `models`: SHA-256 of its verified model files."""

    xapp_name: str
    version: str
    state: Literal["starting", "running", "failed", "stopped"]
    pid: int | None
    uid: int | None
    """The user that its process runs as, nobody else's."""
    placement: str
    reason: str
    scopes: list[str]
    latency_budget_ms: float | None
    models: list[str]
    config: dict[str, Any]
    descriptor_dir: str
    started_at: int


class XappDeployment(Strict):
    """`descriptor_dir`: a folder with config-file.json, or the name of a shipped xApp."""

    descriptor_dir: XappFolder
    config: dict[str, Any] = Field(default_factory=dict)
    placement: str = "centre"
    name: XappName | None = None


class XappUpgrade(Strict):
    """`config` null: as the running version has it."""

    descriptor_dir: XappFolder
    config: dict[str, Any] | None = None


class TokenRequest(Strict):
    """`slices`: `sst-sd` of those whose twin data the token reads."""

    name: XappName
    slices: Annotated[list[str], Field(min_length=1, max_length=16)]


class TokenDocument(BaseModel):
    name: str
    slices: list[str]
    token: str


class LogDocument(BaseModel):
    xapp_name: str
    lines: list[str]
