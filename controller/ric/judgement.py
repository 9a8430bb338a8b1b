"""The judge: whether measured packets show that a decision had its effect. Pure.

A decision is exercised only when traffic could tell the difference.  `verified`
and `refuted` are about exercised decisions; the others are `not_exercised`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from controller.contracts.decisions import Effect
from controller.contracts.inventory import Reservation
from controller.ric.measurement import ClassRate

RATE_TOLERANCE_RATIO = 0.05
BURST_MS = 100
"""A ceiling may be exceeded once by what its bucket holds: this long at its rate."""
BURST_FLOOR_BYTES = 16_000


@dataclass(frozen=True)
class Judgement:
    """`detail` has the numbers that the effect was decided on."""

    effect: Effect
    detail: dict[str, object]


@dataclass(frozen=True)
class UserEvidence:
    """A user's packets after its handover, up to now.

    `delivered_bytes`: through the new cell, by the switches (None: not counted per
    user).  The rest from the user's newest twin report that was measured after the
    confirmation, None without one.
    """

    delivered_bytes: int | None
    reported_cell_id: str | None = None
    demand_kbps: float | None = None
    goodput_kbps: float | None = None


@dataclass(frozen=True)
class InForce:
    """What a (slice, class) was guaranteed and allowed throughout an effect window.

    `old_min_kbps`, `new`: before and by the decision.  Decisions that changed the pair
    again too soon to be judged alone share the window: then at least `least_kbps` was
    guaranteed and at most `most_kbps` allowed in all of it.
    """

    old_min_kbps: int
    new: Reservation
    least_kbps: int
    most_kbps: int

    @classmethod
    def by(cls, old_min_kbps: int, new: Reservation) -> InForce:
        return cls(old_min_kbps, new, new.min_kbps, new.max_kbps)

    def joined(self, later: Reservation) -> InForce:
        return replace(
            self,
            least_kbps=min(self.least_kbps, later.min_kbps),
            most_kbps=max(self.most_kbps, later.max_kbps),
        )

    @property
    def is_withdrawn(self) -> bool:
        """More was guaranteed than before, but not for the whole window."""
        return self.least_kbps <= self.old_min_kbps < self.new.min_kbps


def judge_reservation(held: InForce, rate: ClassRate | None) -> Judgement:
    """One (slice, class) of one cell over its effect window.

    Exercised: demand exceeded the old guarantee or reached the ceiling.
    Verified: the queue sent at least min(demand, guarantee) and at most the ceiling,
    both within 5 % (the ceiling also with its burst).
    """
    detail: dict[str, object] = {
        "old_min_kbps": held.old_min_kbps,
        "min_kbps": held.new.min_kbps,
        "max_kbps": held.new.max_kbps,
        "least_kbps": held.least_kbps,
        "most_kbps": held.most_kbps,
    }
    if rate is None or rate.delivered_kbps is None:
        reason = "the switch gave no counters of this queue"
        return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": reason})
    detail |= {
        "window_s": round(rate.duration_s, 3),
        "demand_kbps": round(rate.arrived_kbps, 1),
        "delivered_kbps": round(rate.delivered_kbps, 1),
    }
    if (idle := why_not_exercised(held, rate)) is not None:
        return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": idle})
    floor_kbps = min(rate.arrived_kbps, held.least_kbps) * (1 - RATE_TOLERANCE_RATIO)
    burst_bytes = max(BURST_FLOOR_BYTES, held.most_kbps * BURST_MS / 8)
    burst_kbps = burst_bytes * 8 / 1000 / rate.duration_s
    ceiling_kbps = held.most_kbps * (1 + RATE_TOLERANCE_RATIO) + burst_kbps
    detail |= {"floor_kbps": round(floor_kbps, 1), "ceiling_kbps": round(ceiling_kbps, 1)}
    kept = floor_kbps <= rate.delivered_kbps <= ceiling_kbps
    return Judgement(Effect.VERIFIED if kept else Effect.REFUTED, detail)


def why_not_exercised(held: InForce, rate: ClassRate) -> str | None:
    """None: traffic could tell the difference."""
    if rate.arrived_kbps >= held.most_kbps:
        return None
    if rate.arrived_kbps <= held.old_min_kbps:
        return "demand stayed within the old guarantee and below the ceiling"
    if held.is_withdrawn:
        return "the raise was taken back before it could be measured"
    return None


def judge_handover(
    new_cell_id: str, evidence: UserEvidence, elapsed_ms: float, deadline_ms: float
) -> Judgement | None:
    """None while the answer is open: nothing arrived yet and the deadline has not passed."""
    detail: dict[str, object] = {
        "cell_id": new_cell_id,
        "elapsed_ms": round(elapsed_ms, 1),
        "delivered_bytes": evidence.delivered_bytes,
        "reported_cell_id": evidence.reported_cell_id,
        "goodput_kbps": evidence.goodput_kbps,
    }
    reported = evidence.reported_cell_id == new_cell_id and bool(evidence.goodput_kbps)
    if bool(evidence.delivered_bytes) or reported:
        detail["seen_by"] = "switch counters" if evidence.delivered_bytes else "twin report"
        return Judgement(Effect.VERIFIED, detail)
    if elapsed_ms < deadline_ms:
        return None
    if evidence.demand_kbps:
        detail |= {
            "demand_kbps": evidence.demand_kbps,
            "reason": f"traffic for the user, but none of it through {new_cell_id}",
        }
        return Judgement(Effect.REFUTED, detail)
    return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": "no demand of the user was seen"})


def combined(effects: Iterable[Effect]) -> Effect:
    """A plan's effect: refuted if any part is, else verified if any part is."""
    present = set(effects)
    for effect in (Effect.REFUTED, Effect.VERIFIED):
        if effect in present:
            return effect
    return Effect.NOT_EXERCISED
