"""Decisions of a measured window in numbers, and how long the loop took. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.contracts.decisions import Action, DecisionRecord, Effect, Verdict
from topologies.results.evidence import moment_ns
from topologies.results.percentiles import percentiles

_MOVES = frozenset({Action.MIGRATE, Action.MIGRATE_TWIN})
_EFFECTS = (Effect.VERIFIED, Effect.REFUTED, Effect.NOT_EXERCISED)


def decisions_between(
    decisions: Sequence[DecisionRecord], start_ns: int, end_ns: int
) -> list[DecisionRecord]:
    return [d for d in decisions if start_ns <= moment_ns(d) < end_ns]


def decision_counts(decisions: Sequence[DecisionRecord]) -> dict[str, Any]:
    """The summary's block; an effect still pending is counted in `pending` only."""
    return {
        **_counts(decisions),
        "by_action": {
            action.value: _counts([d for d in decisions if d.action is action]) for action in Action
        },
    }


def _counts(decisions: Sequence[DecisionRecord]) -> dict[str, int]:
    applied = [d for d in decisions if d.verdict is Verdict.APPLIED]
    counts = {v.value: sum(d.verdict is v for d in decisions) for v in Verdict}
    effects = {e.value: sum(d.effect is e for d in applied) for e in _EFFECTS}
    return {**counts, **effects, "pending": sum(d.effect is Effect.PENDING for d in applied)}


def loop_latency(decisions: Sequence[DecisionRecord], centre_delay_ms: float) -> dict[str, Any]:
    """Of xApps' applied decisions, from the twin update that completed the xApp's input to the
    last confirmation, less the centre link's stated delay.  Handovers, which a local
    controller decides and which are several changes one after the other, stand apart;
    moves of services and twins take what their state takes and do not count.
    """
    latencies_ms: dict[bool, list[float]] = {False: [], True: []}
    for d in decisions:
        if d.action in _MOVES:
            continue
        if d.verdict is Verdict.APPLIED and d.loop_latency_ms is not None:
            latencies_ms[d.action is Action.HANDOVER].append(d.loop_latency_ms)
    return {
        "handover": {
            **percentiles(latencies_ms[True], ("p50", "p99")),
            "samples": len(latencies_ms[True]),
        },
        **percentiles(latencies_ms[False], ("p50", "p99")),
        "samples": len(latencies_ms[False]),
        "subtracted_centre_delay_ms": centre_delay_ms,
    }
