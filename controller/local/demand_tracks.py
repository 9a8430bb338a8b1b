"""What each user here asked for lately, slice by slice: how fast that changes, and its shape.

Filled with every report; a twin that moves here brings its history along.  Pure, no clock.
Columns of plain numbers, 16 bytes a report: as objects they were 650, and most of a twin.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from controller.contracts.twin_messages import UserReport
from controller.local.admission import Roster
from controller.local.aggregation import UserSample, sample_of

FloatArray = npt.NDArray[np.float64]

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

    __slots__ = ("demand_kbps", "end_ns", "newest", "period_ms")

    def __init__(self) -> None:
        self.end_ns = array("q")
        self.period_ms = array("H")  # at most `MAX_REPORT_PERIOD_MS`
        self.demand_kbps: dict[int, array[float]] = {}
        """Single precision: good to 1 kbit/s at 16 Gbit/s."""
        self.newest: UserSample | None = None

    def add(self, sample: UserSample, period_ns: int) -> None:
        slices, columns = sample.slices, self.demand_kbps
        if columns.keys() != slices.keys():
            nothing = bytes(4 * len(self.end_ns))
            columns = {i: columns.get(i) or array("f", nothing) for i in slices}
            self.demand_kbps = columns
        self.end_ns.append(sample.window_end_ns)
        self.period_ms.append(period_ns // 1_000_000)
        for slice_id, column in columns.items():
            column.append(slices[slice_id].demand_kbps)
        self.newest = sample
        self._forget(sample.window_end_ns - KEPT_NS)

    def _forget(self, before_ns: int) -> None:
        old = max(0, len(self.end_ns) - KEPT)
        while self.end_ns[old] < before_ns:
            old += 1
        if old:
            del self.end_ns[:old], self.period_ms[:old]
            for column in self.demand_kbps.values():
                del column[:old]

    def before(self, other: _Track) -> _Track:
        """This past, as far as it ends before the other track begins, and then the other."""
        here = int(np.searchsorted(self.end_ns, other.end_ns[0])) if other.end_ns else len(self)
        joined = _Track()
        joined.end_ns = self.end_ns[:here] + other.end_ns
        joined.period_ms = self.period_ms[:here] + other.period_ms
        joined.newest = other.newest or self.newest
        for slice_id in other.demand_kbps if other.end_ns else self.demand_kbps:
            joined.demand_kbps[slice_id] = self._column(slice_id)[:here] + other._column(slice_id)
        joined._forget(joined.end_ns[-1] - KEPT_NS)
        return joined

    def _column(self, slice_id: int) -> array[float]:
        return self.demand_kbps.get(slice_id) or array("f", bytes(4 * len(self)))

    def __len__(self) -> int:
        return len(self.end_ns)


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
        elif sample.window_end_ns <= track.end_ns[-1]:
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
        track = self._of(ue_id)
        return {
            slice_id: float(np.average(column, weights=track.period_ms))
            for slice_id, column in track.demand_kbps.items()
        }

    def growth_kbps_per_s(self, ue_id: str) -> dict[int, float]:
        """By slice: mean change between reports `GROWTH_LAG_NS` or more apart, per second.

        Empty as long as no two are.
        """
        track = self._of(ue_id)
        end_ns = np.array(track.end_ns)
        later = np.searchsorted(end_ns, end_ns + GROWTH_LAG_NS)
        later = later[later < len(end_ns)]
        if not len(later):
            return {}
        span_s = (end_ns[later] - end_ns[: len(later)]) / 1e9
        found = {}
        for slice_id, column in track.demand_kbps.items():
            kbps = np.array(column, dtype=np.float64)
            found[slice_id] = float(np.mean(np.abs(kbps[later] - kbps[: len(later)]) / span_s))
        return found

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
    column = track._column(slice_id)
    for end_ns, period_ms, kbps in zip(track.end_ns, track.period_ms, column, strict=True):
        first = (end_ns - period_ms * 1_000_000 - start_ns + bin_ns // 2) // bin_ns
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
