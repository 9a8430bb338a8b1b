"""What each user here asked for lately, slice by slice: how fast that changes, and its shape.

Filled with every report; a twin that moves here brings its history along.  Pure, no clock.
Plain numbers, 12 bytes a report and slice: as objects they were 650, and most of a twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from controller.contracts.twin_messages import UserReport
from controller.local.admission import Roster
from controller.local.aggregation import UserSample, sample_of
from controller.local.timed_rows import FloatArray, TimedRows, shared

KEPT = 128
KEPT_NS = 60_000_000_000
GROWTH_LAG_NS = 8_000_000_000
"""The same for all, no shorter than a budget's longest period: a slow reporter must not look
calm only because it is asked rarely."""


class Asked(NamedTuple):
    """Downlink by slice id, as the newest report said."""

    demand_kbps: dict[int, float]
    loss_ratio: dict[int, float]


def asked(sample: UserSample) -> Asked:
    loss = {
        i: s.lost_kbps / s.demand_kbps if s.demand_kbps > 0 else 0.0
        for i, s in sample.slices.items()
    }
    return Asked({i: s.demand_kbps for i, s in sample.slices.items()}, loss)


class _Track:
    """One user's, oldest first; the slices are the newest report's."""

    __slots__ = ("newest", "rows")

    def __init__(self) -> None:
        self.rows: TimedRows[int] = TimedRows(1)
        """When what a report covers ended and its period in ms, then kbit/s by slice id."""
        self.newest: UserSample | None = None

    def add(self, sample: UserSample, period_ns: int) -> None:
        rows, slices, end_ns = self.rows, sample.slices, sample.window_end_ns
        rows.forget_before(end_ns - KEPT_NS)
        if rows.names != (named := tuple(slices)):
            rows.change_names(shared(named))
        rows.append(end_ns, (period_ns // 1_000_000,), [s.demand_kbps for s in slices.values()])
        if len(rows.numbers) > KEPT * rows.width:
            rows.keep_newest(KEPT)
        self.newest = sample

    def before(self, other: _Track) -> _Track:
        """This past, as far as it ends before the other track begins, and then the other."""
        joined = _Track()
        joined.newest = other.newest or self.newest
        joined.rows.change_names((other if len(other) else self).rows.names)
        begin_ns = int(other.rows.times_ns()[0]) if len(other) else None
        for track, until_ns in ((self, begin_ns), (other, None)):
            columns = [track.rows.column(name) for name in joined.rows.names]
            for at_ns, period_ms, *kbps in zip(
                track.rows.times_ns(), track.period_ms, *columns, strict=True
            ):
                if until_ns is None or at_ns < until_ns:
                    joined.rows.append(int(at_ns), (period_ms,), kbps)
        joined.rows.keep_newest(KEPT)
        joined.rows.forget_before(joined.rows.newest_ns - KEPT_NS)
        return joined

    @property
    def period_ms(self) -> FloatArray:
        return self.rows.matrix()[:, 1]

    def __len__(self) -> int:
        return len(self.rows)


_UNKNOWN = _Track()
"""Of a user that never reported; nothing is added to it."""


class DemandTracks:
    """By user."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def observe(self, ue_id: str, sample: UserSample, period_ns: int) -> None:
        """`period_ns`: of the report, whole milliseconds."""
        track = self._tracks.get(ue_id)
        if track is None:
            track = self._tracks[ue_id] = _Track()
        elif sample.window_end_ns <= track.rows.newest_ns:
            return
        track.add(sample, period_ns)

    def adopt(self, ue_id: str, samples: Iterable[tuple[UserSample, int]]) -> None:
        """A past from elsewhere, oldest first, before what came here already."""
        here = self._tracks.pop(ue_id, _UNKNOWN)
        for sample, period_ns in samples:
            self.observe(ue_id, sample, period_ns)
        there = self._tracks.pop(ue_id, _UNKNOWN)
        if len(here) or len(there):
            self._tracks[ue_id] = there.before(here)

    def forget(self, ue_id: str) -> None:
        self._tracks.pop(ue_id, None)

    def latest(self, ue_id: str) -> Asked | None:
        newest = self._of(ue_id).newest
        return asked(newest) if newest is not None else None

    def mean_kbps(self, ue_id: str) -> dict[int, float]:
        """By slice, over what is kept; each report weighs as long as it covers."""
        rows, period_ms = self._of(ue_id).rows, self._of(ue_id).period_ms
        return {s: float(np.average(rows.column(s), weights=period_ms)) for s in rows.names}

    def growth_kbps_per_s(self, ue_id: str) -> dict[int, float]:
        """By slice: mean change between reports `GROWTH_LAG_NS` or more apart, per second.

        Empty as long as no two are.
        """
        rows = self._of(ue_id).rows
        end_ns = rows.times_ns()
        later = np.searchsorted(end_ns, end_ns + GROWTH_LAG_NS)
        later = later[later < len(end_ns)]
        if not len(later):
            return {}
        span_s = (end_ns[later] - end_ns[: len(later)]) / 1e9
        found = {}
        for slice_id in rows.names:
            kbps = rows.column(slice_id)
            found[slice_id] = float(np.mean(np.abs(kbps[later] - kbps[: len(later)]) / span_s))
        return found

    def observed_s(self, ue_id: str) -> float:
        """From the oldest report that is kept to the newest."""
        ends_ns = self._of(ue_id).rows.times_ns()
        return float(ends_ns[-1] - ends_ns[0]) / 1e9 if len(ends_ns) else 0.0

    def binned_kbps(
        self, ue_ids: Sequence[str], slice_id: int, bin_ns: int, bins: int, now_ns: int
    ) -> FloatArray:
        """[user, bin] means, the last bin ending at a whole bin's end; a bin without a report
        has the value before it, none before the first: the first."""
        start_ns = now_ns // bin_ns * bin_ns - bins * bin_ns
        rows = [_binned(self._of(u), slice_id, start_ns, bin_ns, bins) for u in ue_ids]
        return np.array(rows) if rows else np.empty((0, bins))

    def _of(self, ue_id: str) -> _Track:
        return self._tracks.get(ue_id, _UNKNOWN)


def _binned(track: _Track, slice_id: int, start_ns: int, bin_ns: int, bins: int) -> list[float]:
    total, count = [0.0] * bins, [0] * bins
    ends_ns, column = track.rows.times_ns().tolist(), track.rows.column(slice_id).tolist()
    for end_ns, period_ms, kbps in zip(ends_ns, track.period_ms.tolist(), column, strict=True):
        first = (end_ns - int(period_ms) * 1_000_000 - start_ns + bin_ns // 2) // bin_ns
        last = (end_ns - start_ns - 1) // bin_ns
        for index in range(max(0, min(first, last)), min(bins - 1, last) + 1):
            total[index] += kbps
            count[index] += 1
    known = [t / c if c else None for t, c in zip(total, count, strict=True)]
    value = next((k for k in known if k is not None), 0.0)
    row = []
    for k in known:
        value = value if k is None else k
        row.append(value)
    return row


def past(reports: Iterable[UserReport], roster: Roster) -> list[tuple[UserSample, int]]:
    """Reports of a twin's history as samples, with their periods."""
    return [
        (sample_of(r, roster.users[r.ue_id].slice_ids), r.period_ms * 1_000_000) for r in reports
    ]
