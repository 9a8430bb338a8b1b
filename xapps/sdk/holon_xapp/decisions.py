"""What an xApp asks for, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from holon_xapp.events import CellEvent, SNssai

APPLIED, REJECTED, SUPERSEDED = "applied", "rejected", "superseded"


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
        """Body of `POST /api/v1/decisions`, without xApp name and decision id."""
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
