"""Whether a process gets anywhere, as the kernel sees it: has any of its threads run, or may it?

Asked of processes that cannot answer yet.  One that is stopped, or waits for what
never comes, does not run; one that waits for a processor or for its disk would.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

_WOULD_RUN = frozenset("RD")


@dataclass(frozen=True)
class Progress:
    """`turns`: how often its threads were put on a processor so far."""

    turns: int
    would_run: bool
    """A thread waits for a processor or a disk."""

    def since(self, earlier: Progress | None) -> bool:
        """Did it run since then, or would it have?"""
        return earlier is None or self.would_run or self.turns != earlier.turns


GONE = Progress(0, False)


def progress_of(pid: int) -> Progress:
    """`GONE` when there is no such process."""
    turns, would_run = 0, False
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):  # the thread ended meanwhile
            turns += int((thread / "schedstat").read_text().split()[2])
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            would_run = would_run or state in _WOULD_RUN
    return Progress(turns, would_run) if turns else GONE
