"""When a user's twin is too old to be kept, and its user no longer here.  Pure."""

from __future__ import annotations

from controller.twins.level_one import UserTwin

EXPIRY_PERIODS = 5
"""A twin without a report for that many of its periods is forgotten."""


def is_expired(twin: UserTwin, now_ns: int) -> bool:
    return now_ns - twin.arrived_at_ns > EXPIRY_PERIODS * twin.period_ms * 1_000_000


def is_gone(
    twin: UserTwin | None, since_ns: int, period_ms: int, first_period_ns: int, now_ns: int
) -> bool:
    """Whether a user has been silent too long: `EXPIRY_PERIODS` of its `period_ms` and of what
    its last report said, without a twin of `first_period_ns` since it came."""
    if twin is None:
        return now_ns - since_ns > EXPIRY_PERIODS * first_period_ns
    silent_ms = (now_ns - twin.arrived_at_ns) / 1e6
    return is_expired(twin, now_ns) and silent_ms > EXPIRY_PERIODS * period_ms
