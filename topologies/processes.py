"""Reading /proc: which processes run, and ending one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def running_pids() -> list[int]:
    """All pids, zombies included, in rising order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def is_running(pid: int) -> bool:
    """Zombies do not count: nothing of them runs any more."""
    fields = _stat_after_name(pid)
    return fields is not None and fields[0] not in ("Z", "X")


def parents_of(pid: int) -> Iterator[int]:
    """Parent, its parent, and so on; pid 1 and 0 are left out."""
    while (fields := _stat_after_name(pid)) is not None:
        pid = int(fields[1])
        if pid <= 1:
            return
        yield pid


def start_ticks(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started (field 22); None: no such process."""
    fields = _stat_after_name(pid)
    return None if fields is None else int(fields[19])


def kill(pid: int) -> bool:
    """SIGKILL; False when it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _stat_after_name(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third (state) on; the name may hold anything."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()
