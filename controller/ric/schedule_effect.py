"""Whether users were held to their shares: bytes at their meters after a `schedule`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.contracts.decisions import Effect
from controller.ric.judgement import BURST_FLOOR_BYTES, BURST_MS, RATE_TOLERANCE_RATIO, Judgement
from controller.ric.measurement import CounterSample, UserMeterCount

WINDOW_MS = 2000
SAMPLES_KEPT = 16

Finished = Callable[[str, Effect, dict[str, Any]], None]
LimitKbps = Callable[[str, int], int | None]
"""(ue_id, slice_id) -> what its meter allows it now; None: it has none."""
_NOTHING = UserMeterCount(0, 0)


@dataclass(frozen=True)
class WatchedSchedule:
    """`rates_kbps`: ue_id -> the highest limit since it was confirmed: limits follow the
    slice's reservation and the user's cell."""

    decision_id: str
    slice_id: int
    rates_kbps: Mapping[str, int]
    confirmed_ns: int


def judge_schedule(watched: WatchedSchedule, samples: Sequence[CounterSample]) -> Judgement | None:
    """None while the window is open.  Exercised by whoever was sent its limit or more; verified
    when none of them got more than that, refuted by one who did."""
    inside = [s for s in samples if s.taken_at_ns >= watched.confirmed_ns]
    if not inside:
        return None
    span_ms = (inside[-1].taken_at_ns - inside[0].taken_at_ns) / 1e6
    if span_ms < WINDOW_MS:
        return None
    users: dict[str, object] = {}
    effects = []
    for ue_id, limit_kbps in watched.rates_kbps.items():
        first, last = (
            s.user_meters.get((ue_id, watched.slice_id), _NOTHING) for s in (inside[0], inside[-1])
        )
        arrived_bytes = last.arrived_bytes - first.arrived_bytes
        passed_bytes = arrived_bytes - (last.dropped_bytes - first.dropped_bytes)
        limit_bytes = limit_kbps * span_ms / 8
        burst_bytes = max(BURST_FLOOR_BYTES, limit_kbps * BURST_MS / 8)
        if passed_bytes > limit_bytes * (1 + RATE_TOLERANCE_RATIO) + burst_bytes:
            effects.append(Effect.REFUTED)
        elif arrived_bytes >= limit_bytes:
            effects.append(Effect.VERIFIED)
        users[ue_id] = {
            "limit_kbps": limit_kbps,
            "arrived_kbps": arrived_bytes * 8 / span_ms,
            "passed_kbps": passed_bytes * 8 / span_ms,
        }
    if not effects:
        reason = "no user was sent as much as its share"
        return Judgement(Effect.NOT_EXERCISED, {"users": users, "reason": reason})
    effect = Effect.REFUTED if Effect.REFUTED in effects else Effect.VERIFIED
    return Judgement(effect, {"users": users})


class ScheduleWatch:
    """Schedules whose effect is open; a newer one of the same slice ends an older one's."""

    def __init__(self, finished: Finished, limit_kbps: LimitKbps) -> None:
        self._finished = finished
        self._limit_kbps = limit_kbps
        self._open: dict[int, WatchedSchedule] = {}
        self._samples: deque[CounterSample] = deque(maxlen=SAMPLES_KEPT)

    @property
    def open_count(self) -> int:
        return len(self._open)

    def watch(self, watched: WatchedSchedule) -> None:
        earlier = self._open.pop(watched.slice_id, None)
        if earlier is not None:
            reason = "scheduled anew before it could be measured"
            self._finished(earlier.decision_id, Effect.NOT_EXERCISED, {"reason": reason})
        if watched.rates_kbps:
            self._open[watched.slice_id] = watched
        else:
            reason = "nobody is limited by a share any more"
            self._finished(watched.decision_id, Effect.NOT_EXERCISED, {"reason": reason})

    def on_sample(self, sample: CounterSample) -> None:
        self._samples.append(sample)
        for slice_id, watched in list(self._open.items()):
            watched = self._open[slice_id] = self._widened(watched)
            seen = judge_schedule(watched, list(self._samples))
            if seen is not None:
                del self._open[watched.slice_id]
                self._finished(watched.decision_id, seen.effect, seen.detail)

    def _widened(self, watched: WatchedSchedule) -> WatchedSchedule:
        rates = {
            ue_id: max(kbps, self._limit_kbps(ue_id, watched.slice_id) or 0)
            for ue_id, kbps in watched.rates_kbps.items()
        }
        return replace(watched, rates_kbps=rates)
