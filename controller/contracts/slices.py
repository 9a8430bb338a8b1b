"""Slices as a scenario, the API and the controller all describe them.

One schema for slices in the whole project.  Codes follow SD-Fabric's model:
DSCP = slice_id (4 bits) ++ traffic class (2 bits).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from controller.contracts.traffic_class import TrafficClass as TrafficClass
from controller.contracts.traffic_class import TrafficClassCode

INFRASTRUCTURE_SLICE_ID = 0
BACKGROUND_SLICE_ID = 15
"""The best-effort filler's own slice; hidden from users' lists."""
RESERVED_SLICE_IDS = frozenset({0, 12, 15})
"""0 infrastructure, 12 carries BFD's code points (DSCP 48), 15 the filler."""
USABLE_SLICE_IDS = tuple(i for i in range(16) if i not in RESERVED_SLICE_IDS)
"""1-11, 13, 14: as many slices as four bits of DSCP leave."""


class Strict(BaseModel):
    """Base of every document: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SNssai(Strict):
    """Single network slice selection assistance information (TS 23.003 28.4)."""

    sst: Annotated[int, Field(ge=1, le=255)]
    sd: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{6}$")] = "ffffff"

    @field_validator("sd")
    @classmethod
    def _lower(cls, sd: str) -> str:
        return sd.lower()

    def __str__(self) -> str:
        return f"{self.sst}-{self.sd}"


class DelayBound(Strict):
    """The `percentile` of one-way delay must stay at or below `bound_ms`."""

    percentile: Annotated[float, Field(gt=0, lt=100)] = 95.0
    bound_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SliceSla(Strict):
    """Terms that must all hold in a 1 s window for it to count as satisfied.

    `guaranteed_mbps` is network wide: goodput >= min(offered, guaranteed) - 1 %.
    """

    guaranteed_mbps: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    delay: DelayBound | None = None
    loss_ratio: Annotated[float, Field(ge=0, le=1)] | None = None


class SlicePromise(Strict):
    """What a slice is promised, without the id that the network knows it by."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    s_nssai: SNssai
    sla: SliceSla
    default_class: TrafficClass = TrafficClass.ELASTIC
    """Class of traffic between users of the slice that is no service's."""
    user_max_mbps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Per-user meter; none means the access link is the only limit."""
    cells: Annotated[list[str], Field(min_length=1)] | None = None
    """Access points that carry it; none means all of them."""


class Slice(SlicePromise):
    """A network slice as promised; what it holds right now is its reservation."""

    slice_id: Annotated[int, Field(ge=1, le=14)]

    @field_validator("slice_id")
    @classmethod
    def _usable(cls, slice_id: int) -> int:
        return usable_slice_id(slice_id)

    def covers(self, cell_id: str) -> bool:
        return self.cells is None or cell_id in self.cells


def usable_slice_id(slice_id: int) -> int:
    """ValueError for one that is infrastructure's or has no code points."""
    if slice_id in RESERVED_SLICE_IDS:
        raise ValueError(f"slice_id {slice_id} is reserved; use one of 1-11, 13, 14")
    return slice_id


def dscp_of(slice_id: int, traffic_class: TrafficClass) -> int:
    """DSCP code point of a (slice, class) pair, 0-63."""
    return slice_id * 4 + traffic_class.code


BFD_SLICE_ID = 12
CONTROL_QUEUE_ID = 1
BEST_EFFORT_QUEUE_ID = 2


def queue_of(dscp: int) -> int:
    """The one static table from DSCP to queue id, the same in both datapath modes.

    Infrastructure is queue 0, BFD too (it sends with DSCP 48, slice 12's codes); control
    and best-effort are shared by all slices; elastic and real-time have a queue of
    their own whose id is the DSCP (5-58).
    """
    if dscp < 4 or dscp >> 2 == BFD_SLICE_ID:
        return 0
    code = dscp & 3
    if code == TrafficClassCode.CONTROL:
        return CONTROL_QUEUE_ID
    if code == TrafficClassCode.BEST_EFFORT:
        return BEST_EFFORT_QUEUE_ID
    return dscp
