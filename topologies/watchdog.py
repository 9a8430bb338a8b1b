"""Notices processes that live but no longer answer: each is asked for a heartbeat.

A stopped or endlessly looping process is alive to its parent.  Every process
that serves a Unix socket is asked its cheapest op; one that has answered before
and then stays silent for `SILENCE_S` is hung.  So is one that has not answered yet and
whose threads have not run for as long: it does not load its libraries, it was stopped.
Which are hung is a pure question (`Heartbeats`); asking is the shell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.contracts import rpc
from topologies.progress import Progress, progress_of

BEAT_PERIOD_S = 0.5
ANSWER_WITHIN_S = 0.7
SILENCE_S = 3.0
"""Longer than any pause of a working process (a full collection, a large read of counters),
so short that a hung one is back within 5 s."""
STARTING_S = 20.0
"""A process that has not answered yet, and runs, is loading its libraries."""


@dataclass
class _Beat:
    pid: int
    first_asked_s: float
    moved_s: float
    answered_s: float | None = None
    progress: Progress | None = None


@dataclass
class Heartbeats:
    """When each process last answered. Times are CLOCK_MONOTONIC seconds."""

    _beats: dict[str, _Beat] = field(default_factory=dict)

    def note(self, name: str, pid: int, answered: bool, progress: Progress, now_s: float) -> None:
        """A new pid is a new process, which starts with a clean record."""
        beat = self._beats.get(name)
        if beat is None or beat.pid != pid:
            beat = self._beats[name] = _Beat(pid, now_s, now_s)
        if answered:
            beat.answered_s = now_s
        if progress.since(beat.progress):
            beat.moved_s = now_s
        beat.progress = progress

    def hung(self, now_s: float) -> list[str]:
        return [name for name, beat in self._beats.items() if _is_hung(beat, now_s)]


def _is_hung(beat: _Beat, now_s: float) -> bool:
    if beat.answered_s is None:
        stands_still = now_s - beat.moved_s > SILENCE_S
        return stands_still or now_s - beat.first_asked_s > STARTING_S
    return now_s - beat.answered_s > SILENCE_S


class Watchdog:
    """`sockets`: process name -> the socket it serves. All answer the op `status`."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._connections = {name: rpc.AsyncConnection(path) for name, path in sockets.items()}
        self._heartbeats = Heartbeats()

    async def beat(self, pids: Mapping[str, int]) -> list[str]:
        """Ask all that run (`pids`: name -> pid of the living); names of the hung."""
        asked = [name for name in self._connections if name in pids]
        answers = await asyncio.gather(*(self._answers(name) for name in asked))
        now_s = asyncio.get_running_loop().time()
        for name, answered in zip(asked, answers, strict=True):
            self._heartbeats.note(name, pids[name], answered, progress_of(pids[name]), now_s)
        return [name for name in self._heartbeats.hung(now_s) if name in pids]

    async def _answers(self, name: str) -> bool:
        try:
            await self._connections[name].call("status", timeout_s=ANSWER_WITHIN_S)
        except rpc.RpcUnavailable:
            return False
        except rpc.RpcError:
            return True  # it said no, so it lives
        return True

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
