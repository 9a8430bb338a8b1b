"""What became of a change: every switch's word, the difference made, the time of its hops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.contracts.decisions import Confirmation
from controller.ryu_client import Answer


@dataclass(frozen=True)
class EnforcementResult:
    """`hops_ns` (CLOCK_REALTIME): `enforced`, all switches have it; `confirmed`, read back."""

    confirmations: list[Confirmation] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)
    """{flows: {switch: ...}, meters: {switch: ...}, queues: {interface: ...}}, as made or,
    with dry_run, as it would be."""
    hops_ns: dict[str, int] = field(default_factory=dict)
    steps_ms: dict[str, float] = field(default_factory=dict)
    """What each step of a slice's change took."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What a migration cost: downtime_ms, rounds, bytes, requests passed on."""

    @property
    def confirmed(self) -> bool:
        return all(c.confirmed for c in self.confirmations)


def confirmations_of(answers: Mapping[str, Answer]) -> list[Confirmation]:
    return [
        Confirmation(switch=n, confirmed=a.confirmed, detail=a.detail) for n, a in answers.items()
    ]


def undone(failed: EnforcementResult, undoing: Iterable[Confirmation]) -> EnforcementResult:
    """The failure; what became of undoing it stands in every detail."""
    bad = [c.detail for c in undoing if not c.confirmed]
    outcome = f"undoing it failed too: {'; '.join(bad)}" if bad else "undone"
    found = [
        c if c.confirmed else c.model_copy(update={"detail": f"{c.detail} ({outcome})"})
        for c in failed.confirmations
    ]
    return EnforcementResult(found, failed.diff, failed.hops_ns, failed.steps_ms)
