"""Waiting in tests: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

_POLL_S = 0.01


def wait_until(predicate: Callable[[], object], timeout_s: float) -> None:
    """Return as soon as `predicate()` is true; AssertionError after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline_s, f"{predicate} not true within {timeout_s} s"
        time.sleep(_POLL_S)
