"""Which processes are hung, and how soon those that ended start again."""

from __future__ import annotations

from typing import Any

from topologies.supervisor import LONGEST_PAUSE_S, PROMPT_RESTARTS, Child
from topologies.watchdog import SILENCE_S, STARTING_S, Heartbeats


def test_one_that_answered_and_fell_silent_is_hung() -> None:
    beats = Heartbeats()
    beats.note("ryu", 7, True, 10.0)
    beats.note("ryu", 7, False, 10.0 + SILENCE_S)
    assert beats.hung(10.0 + SILENCE_S) == []
    assert beats.hung(10.1 + SILENCE_S) == ["ryu"]


def test_an_answer_in_between_is_enough() -> None:
    beats = Heartbeats()
    for t_s in (0.0, SILENCE_S, 2 * SILENCE_S):
        beats.note("ryu", 7, True, t_s)
    assert beats.hung(2.9 * SILENCE_S) == []


def test_a_new_process_may_take_its_time_to_start() -> None:
    beats = Heartbeats()
    beats.note("ryu", 7, True, 0.0)
    beats.note("ryu", 8, False, 10.0)
    assert beats.hung(9.0 + STARTING_S) == []
    assert beats.hung(11.0 + STARTING_S) == ["ryu"]


def child(restarts_at_s: list[float]) -> Child:
    process: Any = None
    return Child("ryu", [], None, True, process, restarts_at_s)


def test_restarts_are_prompt_at_first_then_slower_and_never_end() -> None:
    assert child([]).not_before_s() == 0.0
    assert child([50.0] * (PROMPT_RESTARTS - 1)).not_before_s() == 50.0
    pauses = [child([50.0] * n).not_before_s() - 50.0 for n in range(PROMPT_RESTARTS, 30)]
    assert pauses == sorted(pauses) and 0 < pauses[0] < 1 and pauses[-1] == LONGEST_PAUSE_S


def test_old_restarts_are_forgiven() -> None:
    assert child([*([0.0] * 20), 500.0]).not_before_s() == 500.0
