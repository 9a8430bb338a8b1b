"""Which processes are hung, and how soon those that ended start again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from topologies.progress import Progress
from topologies.supervisor import LONGEST_PAUSE_S, PROMPT_RESTARTS, Child
from topologies.watchdog import BEAT_PERIOD_S, SILENCE_S, STARTING_S, Heartbeats, Watchdog

STILL = Progress(100, False)


def test_one_that_answered_and_fell_silent_is_hung() -> None:
    beats = Heartbeats()
    beats.note("ryu", 7, True, STILL, 10.0)
    beats.note("ryu", 7, False, STILL, 10.0 + SILENCE_S)
    assert beats.hung(10.0 + SILENCE_S) == []
    assert beats.hung(10.1 + SILENCE_S) == ["ryu"]


def test_an_answer_in_between_is_enough() -> None:
    beats = Heartbeats()
    for t_s in (0.0, SILENCE_S, 2 * SILENCE_S):
        beats.note("ryu", 7, True, STILL, t_s)
    assert beats.hung(2.9 * SILENCE_S) == []


def test_a_new_process_may_take_its_time_to_start_as_long_as_it_runs() -> None:
    beats = Heartbeats()
    beats.note("ryu", 7, True, STILL, 0.0)
    for second in range(int(STARTING_S) + 1):
        beats.note("ryu", 8, False, Progress(second, False), 10.0 + second)
    assert beats.hung(10.0 + STARTING_S) == []
    assert beats.hung(10.1 + STARTING_S) == ["ryu"]


@pytest.mark.parametrize(("would_run", "hung"), [(False, ["ryu"]), (True, [])])
def test_one_that_starts_and_stands_still_is_hung_unless_it_waits_for_a_processor(
    would_run: bool, hung: list[str]
) -> None:
    beats = Heartbeats()
    for second in range(5):
        beats.note("ryu", 8, False, Progress(100, would_run), second)
    assert beats.hung(SILENCE_S) == []
    assert beats.hung(4.0) == hung


SLOW = "import time\nwhile True: time.sleep(0.2)"
WORKING = "while True: pass"
WAITING = "import threading; threading.Event().wait()"


def test_real_starters_that_stand_still_are_told_from_slow_ones(tmp_path: Path) -> None:
    """One that polls, one starved by another on its processor, one that waits for ever, one
    that was stopped; nobody serves a socket."""
    one = min(os.sched_getaffinity(0))
    programs = {"slow": SLOW, "starved": WORKING, "hog": WORKING, "waits": WAITING, "stopped": SLOW}
    children = {n: subprocess.Popen([sys.executable, "-c", p]) for n, p in programs.items()}
    try:
        for name in ("starved", "hog"):
            os.sched_setaffinity(children[name].pid, {one})
        os.sched_setscheduler(children["starved"].pid, os.SCHED_IDLE, os.sched_param(0))
        children["stopped"].send_signal(signal.SIGSTOP)
        pids = {n: c.pid for n, c in children.items() if n != "hog"}
        found = asyncio.run(_first_hung(tmp_path, pids))
    finally:
        for started in children.values():
            started.kill()
            started.wait()
    assert set(found) == {"waits", "stopped"}
    assert max(found.values()) <= 5.0, found


async def _first_hung(folder: Path, pids: dict[str, int]) -> dict[str, float]:
    """Name -> when it was called hung, in seconds of 6."""
    watchdog = Watchdog({name: folder / name for name in pids})
    begun_s, found = time.monotonic(), dict[str, float]()
    while (now_s := time.monotonic() - begun_s) < 6.0:
        for name in await watchdog.beat(pids):
            found.setdefault(name, now_s)
        await asyncio.sleep(BEAT_PERIOD_S)
    watchdog.close()
    return found


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
