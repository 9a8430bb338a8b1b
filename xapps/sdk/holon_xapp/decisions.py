"""What an xApp asks for, and what it is answered."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from holon_xapp.events import CellEvent, SNssai, UserEvent

APPLIED, REJECTED, SUPERSEDED = "applied", "rejected", "superseded"
ANSWER_TIMEOUT_S = 5.0
MIGRATION_TIMEOUT_S = 90.0
"""A migration is answered when the service runs in its new place."""


class Plan(Protocol):
    """Anything that `Xapp.decide` takes."""

    @property
    def answer_timeout_s(self) -> float: ...

    def request(self) -> dict[str, Any]:
        """Body of `POST /api/v1/decisions`, without xApp name and decision id."""


@dataclass(frozen=True, slots=True)
class PlannedReservation:
    """One slice's share of a cell's downlink, L2 kbit/s; `predicted_kbps`: the median forecast."""

    s_nssai: SNssai
    traffic_class: str
    min_kbps: int
    max_kbps: int
    predicted_kbps: float | None = None

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "s_nssai": {"sst": self.s_nssai.sst, "sd": self.s_nssai.sd},
            "traffic_class": self.traffic_class,
            "min_kbps": self.min_kbps,
            "max_kbps": self.max_kbps,
        }
        if self.predicted_kbps is not None:
            found["predicted_kbps"] = self.predicted_kbps
        return found


@dataclass(frozen=True, slots=True)
class ReservationPlan:
    """A cell's plan, applied as a whole or not at all.

    `hops_ns` carries the times of the trace up to the inference; `based_on` the
    measurements it rests on.
    """

    cell_id: str
    reservations: tuple[PlannedReservation, ...]
    trace_id: str
    based_on: tuple[str, ...] = ()
    valid_for_ms: int = 1000
    hops_ns: Mapping[str, int] = field(default_factory=dict)
    answer_timeout_s: float = ANSWER_TIMEOUT_S

    @classmethod
    def answering(
        cls, event: CellEvent, reservations: tuple[PlannedReservation, ...], inferred_at_ns: int
    ) -> Self:
        """The plan that follows from an event."""
        return cls(
            cell_id=event.cell_id,
            reservations=reservations,
            trace_id=event.trace_id,
            based_on=(event.measurement_id,),
            hops_ns={
                "twin_completed": event.completed_at_ns,
                "aggregate_sent": event.sent_at_ns,
                "aggregate_received": event.received_at_ns,
                "inferred": inferred_at_ns,
            },
        )

    def request(self) -> dict[str, Any]:
        return {
            "trace_id": self.trace_id,
            "action": "reserve",
            "target": {"cell_id": self.cell_id},
            "parameters": {"reservations": [r.document() for r in self.reservations]},
            "based_on": list(self.based_on),
            "valid_for_ms": self.valid_for_ms,
            "hops_ns": dict(self.hops_ns),
        }


@dataclass(frozen=True, slots=True)
class Order:
    """Any single decision: `action`, whom it is about, and how it shall be.

    The functions below make one of each action; `answering` says on what twin it rests.
    """

    action: str
    target: Mapping[str, Any]
    parameters: Mapping[str, Any]
    trace_id: str = ""
    based_on: tuple[str, ...] = ()
    valid_for_ms: int = 2000
    hops_ns: Mapping[str, int] = field(default_factory=dict)
    answer_timeout_s: float = ANSWER_TIMEOUT_S

    def answering(self, event: UserEvent, inferred_at_ns: int) -> Self:
        return replace(
            self,
            trace_id=f"user-{event.ue_id}-{event.version}",
            based_on=(event.measurement_id,),
            hops_ns={"twin_completed": event.changed_at_ns, "inferred": inferred_at_ns},
        )

    def request(self) -> dict[str, Any]:
        return {
            "trace_id": self.trace_id or uuid.uuid4().hex,
            "action": self.action,
            "target": dict(self.target),
            "parameters": dict(self.parameters),
            "based_on": list(self.based_on),
            "valid_for_ms": self.valid_for_ms,
            "hops_ns": dict(self.hops_ns),
        }


def migrate(service: str, host: str) -> Order:
    """A task service moves with its state; scope `migrate`."""
    target = {"service": service}
    return Order("migrate", target, {"host": host}, answer_timeout_s=MIGRATION_TIMEOUT_S)


def migrate_twin(ue_id: str, edge: str) -> Order:
    """A copy of a user's twin goes ahead to another edge; scope `migrate_twin`."""
    return Order("migrate_twin", {"ue_id": ue_id}, {"edge": edge})


def handover(ue_id: str, cell_id: str) -> Order:
    """Scope `handover`."""
    return Order("handover", {"ue_id": ue_id}, {"cell_id": cell_id})


def schedule(s_nssai: SNssai, shares: Mapping[str, float]) -> Order:
    """Each named user gets at most this share (0-1) of what its slice may send in its cell,
    downlink; users not named are not limited. Scope `schedule`."""
    target = {"s_nssai": {"sst": s_nssai.sst, "sd": s_nssai.sd}}
    return Order("schedule", target, {"shares": dict(shares)})


def offload(ue_id: str, service: str, to: str) -> Order:
    """A user's tasks for a service are worked on at `to` from its next request on: the service, one
    that does the same, or `"device"`. Scope `offload`."""
    return Order("offload", {"ue_id": ue_id, "service": service}, {"to": to})


def adapt_link(ue_id: str, max_cqi: int | None) -> Order:
    """No modulation and coding above this CQI's (1-15) for a user; None: what its channel allows.
    Scope `adapt_link`."""
    return Order("adapt_link", {"ue_id": ue_id}, {"max_cqi": max_cqi})


@dataclass(frozen=True, slots=True)
class Decision:
    """The RIC's verdict: applied, rejected (with its reason) or superseded.

    `status` is HTTP's: 200, or 409, 422, 429 for what the RIC did not even take up.
    `record` is the whole document; its effect is judged later from measured packets.
    """

    decision_id: str
    verdict: str
    reason: str = ""
    status: int = 200
    loop_latency_ms: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_applied(self) -> bool:
        return self.verdict == APPLIED

    @classmethod
    def from_record(cls, record: Mapping[str, Any], status: int = 200) -> Self:
        return cls(
            decision_id=str(record["decision_id"]),
            verdict=str(record["verdict"]),
            reason=str(record.get("reason", "")),
            status=status,
            loop_latency_ms=record.get("loop_latency_ms"),
            record=record,
        )
