"""Effects: one poller reads the switches' counters and feeds the judge.

Every applied decision is watched from its confirmation until its effect window
ends; the judge (`judgement.py`) decides on the samples at both ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.contracts.decisions import Effect
from controller.contracts.inventory import Reservation
from controller.guard import ReservationKey, key_of
from controller.ric.judgement import (
    InForce,
    Judgement,
    UserEvidence,
    combined,
    judge_handover,
    judge_reservation,
)
from controller.ric.measurement import CounterSample, class_rate
from controller.ric.presence import WatchedPresence, judge_presence

log = logging.getLogger(__name__)

POLL_PERIOD_S = 0.5
POLL_PHASE_S = 0.3
"""Into each period of CLOCK_REALTIME.  Twins complete and decisions are made early in a
report period; reading a few hundred rules then would keep Ryu and the RIC from them."""
WINDOW_MS = 2000
SHORTEST_WINDOW_MS = 900
"""Two polls' time.  A change after that ends a window; one before it joins the window,
or an xApp that plans twice a second would never be judged."""
HANDOVER_DEADLINE_MS = 2000
SAMPLES_KEPT = 64

Finished = Callable[[str, Effect, dict[str, Any]], None]
UserEvidenceOf = Callable[[str, int], Awaitable[UserEvidence | None]]
"""(ue_id, confirmed_at_ns) -> what the user's twin reported since, None without a report."""


@dataclass
class WatchedClass:
    """One (slice, class) of a watched reservation; `ended_ns`: when it was changed again."""

    held: InForce
    ended_ns: int | None = None
    judgement: Judgement | None = None


@dataclass
class WatchedReservation:
    decision_id: str
    cell_id: str
    confirmed_ns: int
    classes: dict[ReservationKey, WatchedClass] = field(default_factory=dict)


@dataclass(frozen=True)
class WatchedHandover:
    decision_id: str
    ue_id: str
    cell_id: str
    confirmed_ns: int


class EffectWatch:
    """Decisions whose effect is open.  `finished` is called once for each."""

    def __init__(self, finished: Finished, user_evidence: UserEvidenceOf) -> None:
        self._finished = finished
        self._user_evidence = user_evidence
        self._reservations: list[WatchedReservation] = []
        self._handovers: list[WatchedHandover] = []
        self._presences: list[WatchedPresence] = []
        self._samples: deque[CounterSample] = deque(maxlen=SAMPLES_KEPT)

    @property
    def open_count(self) -> int:
        return len(self._reservations) + len(self._handovers) + len(self._presences)

    def watch_presence(self, watched: WatchedPresence) -> None:
        self._presences.append(watched)

    def watch_reservation(
        self,
        decision_id: str,
        cell_id: str,
        old: Mapping[ReservationKey, Reservation],
        changes: Sequence[Reservation],
        guarded_ns: int,
        confirmed_ns: int,
    ) -> None:
        """Also ends or joins the windows of earlier decisions on the classes it changed."""
        changed = {key_of(c): c for c in changes if old.get(key_of(c)) != c}
        for earlier in self._reservations:
            if earlier.cell_id == cell_id:
                for key in earlier.classes.keys() & changed.keys():
                    self._change_again(earlier, earlier.classes[key], changed[key], guarded_ns)
        if not changed:
            reason = "it changed nothing: the reservation already was as asked"
            self._finished(decision_id, Effect.NOT_EXERCISED, {"reason": reason})
            return
        classes = {
            key: WatchedClass(InForce.by(old[key].min_kbps if key in old else 0, change))
            for key, change in changed.items()
        }
        self._reservations.append(WatchedReservation(decision_id, cell_id, confirmed_ns, classes))

    def _change_again(
        self, watched: WatchedReservation, item: WatchedClass, later: Reservation, at_ns: int
    ) -> None:
        if item.ended_ns is not None:
            return
        inside = self._samples_between(watched.confirmed_ns, at_ns)
        if span_ms(inside) >= SHORTEST_WINDOW_MS:
            item.ended_ns = at_ns
        else:
            item.held = item.held.joined(later)

    def _samples_between(self, start_ns: int, end_ns: int) -> list[CounterSample]:
        return [s for s in self._samples if start_ns <= s.taken_at_ns <= end_ns]

    def watch_handover(self, decision_id: str, ue_id: str, cell_id: str, confirmed_ns: int) -> None:
        """An earlier handover of the user that is still open can no longer be seen."""
        for earlier in [h for h in self._handovers if h.ue_id == ue_id]:
            self._handovers.remove(earlier)
            reason = "the user was handed over again before any of its packets was seen"
            self._finished(earlier.decision_id, Effect.NOT_EXERCISED, {"reason": reason})
        self._handovers.append(WatchedHandover(decision_id, ue_id, cell_id, confirmed_ns))

    async def on_sample(self, sample: CounterSample) -> None:
        self._samples.append(sample)
        for watched in list(self._reservations):
            self._advance_reservation(watched, sample.taken_at_ns)
        for presence in list(self._presences):
            seen = judge_presence(presence, list(self._samples))
            if seen is not None:
                self._presences.remove(presence)
                self._finished(presence.decision_id, seen.effect, seen.detail)
        for handover in list(self._handovers):
            await self._advance_handover(handover, sample)

    def _advance_reservation(self, watched: WatchedReservation, now_ns: int) -> None:
        for key, item in watched.classes.items():
            if item.judgement is None:
                item.judgement = self._judge_class(watched, key, item, now_ns)
        judgements = [item.judgement for item in watched.classes.values()]
        if any(judgement is None for judgement in judgements):
            return
        self._reservations.remove(watched)
        detail = {
            f"{slice_id}/{traffic_class.value}": {
                "effect": item.judgement.effect.value,
                **item.judgement.detail,
            }
            for (slice_id, traffic_class), item in watched.classes.items()
            if item.judgement is not None
        }
        effect = combined(j.effect for j in judgements if j is not None)
        self._finished(watched.decision_id, effect, {"classes": detail})

    def _judge_class(
        self, watched: WatchedReservation, key: ReservationKey, item: WatchedClass, now_ns: int
    ) -> Judgement | None:
        """None while the window is open."""
        inside = self._samples_between(watched.confirmed_ns, item.ended_ns or now_ns)
        if item.ended_ns is None and span_ms(inside) < WINDOW_MS:
            return None
        rate = class_rate(inside[0], inside[-1], (watched.cell_id, *key))
        return judge_reservation(item.held, rate)

    async def _advance_handover(self, watched: WatchedHandover, sample: CounterSample) -> None:
        since = [s for s in self._samples if s.taken_at_ns >= watched.confirmed_ns]
        key = (watched.ue_id, watched.cell_id)
        delivered_bytes = None
        if since and key in sample.users:
            # A counter that the handover itself created is absent before and starts from 0.
            delivered_bytes = max(0, sample.users[key] - since[0].users.get(key, 0))
        reported = None
        if not delivered_bytes:
            reported = await self._user_evidence(watched.ue_id, watched.confirmed_ns)
        evidence = UserEvidence(
            delivered_bytes,
            reported.reported_cell_id if reported else None,
            reported.demand_kbps if reported else None,
            reported.goodput_kbps if reported else None,
        )
        elapsed_ms = (sample.taken_at_ns - watched.confirmed_ns) / 1e6
        judgement = judge_handover(watched.cell_id, evidence, elapsed_ms, HANDOVER_DEADLINE_MS)
        # While the twin was asked, a further handover of the user may have ended this one.
        if judgement is not None and watched in self._handovers:
            self._handovers.remove(watched)
            self._finished(watched.decision_id, judgement.effect, judgement.detail)


def span_ms(samples: Sequence[CounterSample]) -> float:
    return (samples[-1].taken_at_ns - samples[0].taken_at_ns) / 1e6 if samples else 0.0


def wait_s(now_s: float) -> float:
    """From `now_s` to the next poll, never 0."""
    return POLL_PERIOD_S - (now_s - POLL_PHASE_S) % POLL_PERIOD_S


class CounterPoller:
    """Reads counters once in every `POLL_PERIOD_S`, away from when decisions are made."""

    def __init__(
        self,
        read: Callable[[], Awaitable[CounterSample]],
        consume: Callable[[CounterSample], Awaitable[None]],
    ) -> None:
        self._read = read
        self._consume = consume
        self.failures = 0
        self.alarm: str | None = None

    async def run(self) -> None:
        while True:
            try:
                await self._consume(await self._read())
                self.alarm = None
            except Exception as error:  # the switches or Ryu may be gone for a while
                self.failures += 1
                if self.alarm is None:
                    log.warning("counters cannot be read: %s", error)
                self.alarm = f"counters: {error}"
            await asyncio.sleep(wait_s(time.time()))
