"""What packets say of a slice that came to a cell, or was taken off it."""

from __future__ import annotations

import pytest

from controller.contracts.decisions import Effect
from controller.contracts.slices import TrafficClass
from controller.ric.measurement import ClassCount, CounterSample
from controller.ric.presence import WatchedPresence, judge_presence

KEY = ("ap1", 3, TrafficClass.ELASTIC)
CONFIRMED_S = 10.0


def samples(*bytes_at: tuple[float, int | None]) -> list[CounterSample]:
    """(second, bytes at the slice's meter; None: it has none)."""
    return [
        CounterSample(int(s * 1e9), {} if n is None else {KEY: ClassCount(n, n)}, {})
        for s, n in bytes_at
    ]


def watched(wanted: bool) -> WatchedPresence:
    return WatchedPresence("d", 3, frozenset({"ap1"}), wanted, int(CONFIRMED_S * 1e9))


def test_open_until_the_window_is_over() -> None:
    assert judge_presence(watched(True), samples((10.1, 0), (11.1, 500))) is None


@pytest.mark.parametrize(
    ("wanted", "counted", "effect"),
    [
        (True, ((9.5, None), (10.1, 0), (12.2, 800)), Effect.VERIFIED),
        (True, ((9.5, None), (10.1, None), (12.2, 800)), Effect.VERIFIED),
        (True, ((10.1, 0), (12.2, 0)), Effect.NOT_EXERCISED),
        (False, ((8.0, 100), (9.5, 700), (10.1, 700), (12.2, 700)), Effect.VERIFIED),
        (False, ((8.0, 700), (9.5, 700), (10.1, 700), (12.2, 700)), Effect.NOT_EXERCISED),
        (False, ((8.0, 100), (9.5, 700), (10.1, 700), (12.2, 900)), Effect.REFUTED),
    ],
)
def test_effect(
    wanted: bool, counted: tuple[tuple[float, int | None], ...], effect: Effect
) -> None:
    seen = judge_presence(watched(wanted), samples(*counted))
    assert seen is not None and seen.effect is effect
