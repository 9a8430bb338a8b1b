"""When a cell's window is complete: who is attached, who has reported, who is awaited.

Window k of the edge's period P ends at E = (k + 1) P and closes when every user
attached since before E has reported for it, at the latest at E + P / 2.  Users
may report at other periods: a faster one's reports in the window are averaged; a
slower one's last report stands until its next is due.  No sockets and no clock
in here: times are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.local.aggregation import SliceSample, UserSample, mean_slices

LATEST_REPORT_NS = 1_000_000_000
"""An agent's longest stagger and the window in which its report then comes."""
MAX_WINDOWS_BEHIND = 4
"""After a stall, older windows are skipped instead of sent late."""


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """`closed_at_ns`: arrival of the report that completed it, or the deadline's time."""

    cell_id: str
    window: int
    closed_at_ns: int
    is_complete: bool
    users: list[Mapping[int, SliceSample]]
    users_expected: int


@dataclass(slots=True)
class _Open:
    awaited: set[str]
    samples: dict[str, list[UserSample]] = field(default_factory=dict)


class CellWindows:
    """The open windows of an edge's cells."""

    def __init__(self, cell_ids: Iterable[str], period_ms: int, now_ns: int) -> None:
        self.period_ns = period_ms * 1_000_000
        self._users: dict[str, set[str]] = {cell_id: set() for cell_id in cell_ids}
        self._attached: dict[str, tuple[str, int]] = {}
        self._latest: dict[str, UserSample] = {}
        self._open: dict[tuple[str, int], _Open] = {}
        self._next = dict.fromkeys(self._users, now_ns // self.period_ns)
        self.late_samples = 0

    def attachment(self, ue_id: str) -> tuple[str, int] | None:
        """(cell, since when in ns) of a user in one of these cells."""
        return self._attached.get(ue_id)

    def attached_users(self) -> list[str]:
        return list(self._attached)

    def attach(self, ue_id: str, cell_id: str | None, at_ns: int) -> list[ClosedWindow]:
        """The user is in `cell_id` since `at_ns`; None: in no cell of this edge.

        Nobody waits for it in the old cell any more, which may complete a window.
        """
        before = self._attached.get(ue_id)
        if before is not None and before[0] == cell_id:
            return []
        closed = []
        if before is not None:
            self._users[before[0]].discard(ue_id)
            del self._attached[ue_id]
            closed = [w for key in self._keys(before[0]) for w in self._met(key, ue_id, at_ns)]
        if cell_id is None:
            self._latest.pop(ue_id, None)
            return closed
        self._users[cell_id].add(ue_id)
        self._attached[ue_id] = (cell_id, at_ns)
        for _, window in self._keys(cell_id):
            if at_ns < self._end_ns(window):
                self._open[cell_id, window].awaited.add(ue_id)
        return closed

    def add(self, ue_id: str, sample: UserSample, arrived_at_ns: int) -> list[ClosedWindow]:
        """An attached user's report; what it completes, oldest window first.

        KeyError when the user is not attached.
        """
        cell_id, _ = self._attached[ue_id]
        self._latest[ue_id] = sample
        window = (sample.window_end_ns - 1) // self.period_ns
        if window < self._next[cell_id]:
            self.late_samples += 1
            return []
        key = (cell_id, window)
        if key not in self._open:
            self._open[key] = _Open(self._awaited(cell_id, window))
            self._open[key].awaited.add(ue_id)  # it is here: attached after the end or not
        self._open[key].samples.setdefault(ue_id, []).append(sample)
        if not self._covers(sample, window):
            return []  # a fast reporter's, with another to come before the window's end
        return list(self._met(key, ue_id, arrived_at_ns))

    def close_due(self, now_ns: int) -> list[ClosedWindow]:
        """Every window whose deadline has passed, complete or not, oldest first."""
        last_due = (now_ns - self.period_ns // 2) // self.period_ns - 1
        closed = []
        for cell_id, first in list(self._next.items()):
            begin = max(first, last_due - MAX_WINDOWS_BEHIND + 1)
            closed += [self._close(cell_id, w, now_ns, False) for w in range(begin, last_due + 1)]
        return sorted(closed, key=lambda w: w.window)

    def next_deadline_ns(self, now_ns: int) -> int:
        half_ns = self.period_ns // 2
        return ((now_ns - half_ns) // self.period_ns + 1) * self.period_ns + half_ns

    def _keys(self, cell_id: str) -> list[tuple[str, int]]:
        return sorted(key for key in self._open if key[0] == cell_id)

    def _met(self, key: tuple[str, int], ue_id: str, at_ns: int) -> Iterator[ClosedWindow]:
        """Stop waiting for the user; the windows which that completes."""
        cell_id, window = key
        opened = self._open.get(key)
        if opened is None:
            return
        opened.awaited.discard(ue_id)
        if opened.awaited or not opened.samples:
            return
        for _, earlier in self._keys(cell_id):
            if earlier < window:
                yield self._close(cell_id, earlier, at_ns, False)
        yield self._close(cell_id, window, at_ns, True)

    def _close(self, cell_id: str, window: int, at_ns: int, is_complete: bool) -> ClosedWindow:
        opened = self._open.pop((cell_id, window), None)
        samples = opened.samples if opened is not None else {}
        held = {
            ue_id: [latest]
            for ue_id in self._users[cell_id]
            if ue_id not in samples and (latest := self._standing(ue_id, window)) is not None
        }
        expected = {u for u in self._users[cell_id] if self._is_expected(u, window)}
        self._next[cell_id] = window + 1
        for key in self._keys(cell_id):
            if key[1] <= window:
                del self._open[key]
        return ClosedWindow(
            cell_id=cell_id,
            window=window,
            closed_at_ns=at_ns,
            is_complete=is_complete,
            users=[mean_slices(s) for s in (samples | held).values()],
            users_expected=len(expected | samples.keys()),
        )

    def _end_ns(self, window: int) -> int:
        return (window + 1) * self.period_ns

    def _is_expected(self, ue_id: str, window: int) -> bool:
        return self._attached[ue_id][1] < self._end_ns(window)

    def _awaited(self, cell_id: str, window: int) -> set[str]:
        return {
            u
            for u in self._users[cell_id]
            if self._is_expected(u, window) and self._held(u, window) is None
        }

    def _held(self, ue_id: str, window: int) -> UserSample | None:
        """The user's last sample if its next one is due only after the window's end."""
        latest = self._latest.get(ue_id)
        if latest is None or latest.window_end_ns > self._end_ns(window):
            return None
        return latest if self._covers(latest, window) else None

    def _standing(self, ue_id: str, window: int) -> UserSample | None:
        """What counts for who has not reported for the window when it closes.

        A slower user's next report leaves up to `LATEST_REPORT_NS` after it is due: until
        then its last one stands, or its demand would be missing once a period.
        """
        latest = self._latest.get(ue_id)
        if latest is None or latest.period_ns <= self.period_ns:
            return self._held(ue_id, window)
        if latest.window_end_ns > self._end_ns(window):
            return None
        overdue_ns = self._end_ns(window) - latest.window_end_ns - latest.period_ns
        return latest if overdue_ns < min(latest.period_ns, LATEST_REPORT_NS) else None

    def _covers(self, sample: UserSample, window: int) -> bool:
        return sample.window_end_ns + sample.period_ns > self._end_ns(window)
