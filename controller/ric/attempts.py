"""One decision on its way through the pipeline, and the records it ends in. Pure data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.contracts.decisions import (
    Confirmation,
    DecisionRecord,
    DecisionRequest,
    Effect,
    Verdict,
)
from controller.guard import CellView, Rejection
from controller.ric.intents import Intent


@dataclass(frozen=True)
class Clock:
    """CLOCK_REALTIME for what is told, CLOCK_MONOTONIC for what is measured here."""

    now_ns: Callable[[], int] = field(default=time.time_ns)
    now_s: Callable[[], float] = field(default=time.monotonic)


@dataclass(frozen=True)
class Attempt:
    """`hops_ns` up to `received`; `sequence` counts arrivals at the RIC."""

    request: DecisionRequest
    decision_id: str
    intent: Intent
    hops_ns: dict[str, int]
    sequence: int


@dataclass(frozen=True)
class Decided:
    """The record and, when not applied, the guard's rule that failed ('' otherwise)."""

    record: DecisionRecord
    rule: str = ""


@dataclass(frozen=True)
class Applied:
    """What the rest of the RIC learns of a confirmed decision."""

    record: DecisionRecord
    intent: Intent
    before: CellView | None
    """The cell as it was; None for a handover."""


@dataclass
class TargetState:
    """Order of the decisions on one target; `applied_at_s` is monotonic."""

    newest_sequence: int = 0
    applied_twin_completed_ns: int | None = None
    applied_at_s: float | None = None


def record_of(attempt: Attempt, **outcome: Any) -> DecisionRecord:
    request, (target, parameters) = attempt.request, attempt.intent.document
    return DecisionRecord(
        decision_id=attempt.decision_id,
        trace_id=request.trace_id,
        xapp=request.xapp,
        action=request.action,
        target=target,
        parameters=parameters,
        based_on=request.based_on,
        **{"hops_ns": attempt.hops_ns, **outcome},
    )


def rejected(
    attempt: Attempt,
    rejection: Rejection,
    hops_ns: dict[str, int],
    confirmations: Sequence[Confirmation] = (),
) -> Decided:
    """Of a decision that changed nothing; it has no effect to wait for."""
    superseded = rejection.rule == "superseded"
    record = record_of(
        attempt,
        verdict=Verdict.SUPERSEDED if superseded else Verdict.REJECTED,
        reason=rejection.reason,
        confirmations=list(confirmations),
        hops_ns=hops_ns,
        effect=Effect.NOT_EXERCISED,
    )
    return Decided(record, rejection.rule)
