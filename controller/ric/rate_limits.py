"""Rate limits of xApps and cells: token buckets by name."""

from __future__ import annotations

from controller.guard import GuardLimits, Rejection, TokenBucket
from controller.ric.attempts import Attempt, Clock
from controller.ric.intents import ReserveIntent

TRUSTED_RATE_PER_S = 50.0
"""Of the testbed's own local controllers, whose users hand over in bursts."""
BUCKETS_KEPT = 4096

RATE_RULES = frozenset({"xapp_rate", "cell_rate"})
"""Rejections that say only 'not now': the same decision_id may be tried again."""


class RateLimits:
    def __init__(self, limits: GuardLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def over_xapp_rate(self, attempt: Attempt, trusted: bool) -> Rejection | None:
        """Takes a token of the xApp."""
        rate, burst = self._limits.xapp_rate_per_s, self._limits.xapp_burst
        if trusted:
            rate = burst = TRUSTED_RATE_PER_S
        return self._over("xapp_rate", f"xApp {attempt.request.xapp}", rate, burst)

    def over_cell_rate(self, attempt: Attempt) -> Rejection | None:
        """Takes a token of the cell; only reservations change queues."""
        if not isinstance(attempt.intent, ReserveIntent):
            return None
        name = f"cell {attempt.intent.cell_id}"
        return self._over("cell_rate", name, self._limits.cell_rate_per_s, self._limits.cell_burst)

    def _over(self, rule: str, name: str, rate_per_s: float, burst: float) -> Rejection | None:
        now_s = self._clock.now_s()
        bucket = self._buckets.get(name) or TokenBucket.full(rate_per_s, burst, now_s)
        self._buckets[name], allowed = bucket.take(now_s)
        if len(self._buckets) > BUCKETS_KEPT:
            del self._buckets[next(iter(self._buckets))]
        if allowed:
            return None
        return Rejection(rule, f"{name}: more than {rate_per_s:g} decisions/s, burst {burst:g}")
