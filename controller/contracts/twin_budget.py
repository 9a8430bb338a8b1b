"""The twin budget (VL6): what keeping twins may cost, and what it costs at an edge.

Bytes are L2 bytes on the wire in slice 0, counted where they were received or sent:
users' reports, orders to their agents, aggregates to the centre, twins on the move.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controller.contracts.slices import Strict


class SpendingPolicy(StrEnum):
    AUTOMATIC = "automatic"
    """Where decisions suffer most from age."""
    UNIFORM = "uniform"
    """The same period for all."""


class TwinBudget(Strict):
    bytes_per_s: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
    """At all edges together."""
    processor_ratio: Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)] | None = None
    """Of one core, all local controllers together; None: not limited."""
    spending: SpendingPolicy = SpendingPolicy.AUTOMATIC


class Represented(Strict):
    """How many users an edge has twins of at their own period; the others are estimated."""

    users: Annotated[int, Field(ge=1, le=4096)]
    period_ms: Annotated[int, Field(ge=1000, le=10_000)] = 4000
    """Of the others' reports."""
    seed: int = 0


class UserSpent(Strict):
    """Of one user here; counts since the local controller started."""

    ue_id: str
    cell_id: str
    datagrams: int
    wire_bytes: int
    demand_kbps: dict[int, float]
    """Downlink by slice id, the newest report's."""
    growth_kbps_per_s: dict[int, float]
    """How fast a report's demand stops being true, by slice id."""
    observed_s: float
    """Of how long that is known."""
    loss_ratio: dict[int, float]
    handover_margin_db: float | None
    """How much weaker the best neighbour is heard; None: there is none, or it is not known."""
    is_moving: bool


class EdgeSpent(Strict):
    """One local controller's, counted since it started."""

    edge: str
    pid: int
    at_ns: int
    """CLOCK_MONOTONIC"""
    processor_s: float
    report_datagrams: int
    report_bytes: int
    order_bytes: int
    aggregate_bytes: int
    move_bytes: int
    users: list[UserSpent]

    @property
    def wire_bytes(self) -> int:
        return self.report_bytes + self.order_bytes + self.aggregate_bytes + self.move_bytes
