"""When a silent user is no longer here. Pure."""

from __future__ import annotations

from controller.twins.level_one import EXPIRY_PERIODS, UserTwin, is_expired


def is_gone(
    twin: UserTwin | None, since_ns: int, period_ms: int, first_period_ns: int, now_ns: int
) -> bool:
    """Whether a user has been silent too long: `EXPIRY_PERIODS` of its `period_ms` and of what
    its last report said, without a twin of `first_period_ns` since it came."""
    if twin is None:
        return now_ns - since_ns > EXPIRY_PERIODS * first_period_ns
    silent_ms = (now_ns - twin.arrived_at_ns) / 1e6
    return is_expired(twin, now_ns) and silent_ms > EXPIRY_PERIODS * period_ms
