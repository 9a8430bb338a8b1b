"""What each user here asked for lately, slice by slice: how fast that changes, and its shape.

Filled with every report; a twin that moves here brings its history along.  Pure, no clock.
"""

from __future__ import annotations

from collections import deque
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
    """Downlink by slice id in the `period_ns` that ended at `end_ns`."""

    end_ns: int
    period_ns: int
    demand_kbps: dict[int, float]
    loss_ratio: dict[int, float]


def asked(sample: UserSample, period_ns: int) -> Asked:
    loss = {
        i: s.lost_kbps / s.demand_kbps if s.demand_kbps > 0 else 0.0
        for i, s in sample.slices.items()
    }
    demand = {i: s.demand_kbps for i, s in sample.slices.items()}
    return Asked(sample.window_end_ns, period_ns, demand, loss)


class DemandTracks:
    """By user, oldest first."""

    def __init__(self) -> None:
        self._tracks: dict[str, deque[Asked]] = {}

    def observe(self, ue_id: str, sample: UserSample, period_ns: int) -> None:
        track = self._tracks.setdefault(ue_id, deque(maxlen=KEPT))
        if track and sample.window_end_ns <= track[-1].end_ns:
            return
        track.append(asked(sample, period_ns))
        while track[-1].end_ns - track[0].end_ns > KEPT_NS:
            track.popleft()

    def adopt(self, ue_id: str, samples: Iterable[tuple[UserSample, int]]) -> None:
        """A past from elsewhere, oldest first, before what came here already."""
        here = self._tracks.pop(ue_id, deque())
        for sample, period_ns in samples:
            if not here or sample.window_end_ns < here[0].end_ns:
                self.observe(ue_id, sample, period_ns)
        self._tracks.setdefault(ue_id, deque(maxlen=KEPT)).extend(here)

    def forget(self, ue_id: str) -> None:
        self._tracks.pop(ue_id, None)

    def latest(self, ue_id: str) -> Asked | None:
        track = self._tracks.get(ue_id)
        return track[-1] if track else None

    def mean_kbps(self, ue_id: str) -> dict[int, float]:
        """By slice, over what is kept; each report weighs as long as it covers."""
        track = self._tracks.get(ue_id, ())
        covered_ns = sum(item.period_ns for item in track)
        total: dict[int, float] = {}
        for item in track:
            for slice_id, kbps in item.demand_kbps.items():
                total[slice_id] = total.get(slice_id, 0.0) + kbps * item.period_ns
        return {slice_id: t / covered_ns for slice_id, t in total.items()}

    def growth_kbps_per_s(self, ue_id: str) -> dict[int, float]:
        """By slice: mean change between reports `GROWTH_LAG_NS` or more apart, per second."""
        return growth(list(self._tracks.get(ue_id, ())))

    def binned_kbps(
        self, ue_ids: Sequence[str], slice_id: int, bin_ns: int, bins: int, now_ns: int
    ) -> FloatArray:
        """[user, bin] means, the last bin ending at a whole bin's end; a bin without a report
        has the value before it, none before the first: the first."""
        end_ns = now_ns // bin_ns * bin_ns
        rows = [
            _binned(self._tracks.get(u, ()), slice_id, end_ns - bins * bin_ns, bin_ns, bins)
            for u in ue_ids
        ]
        return np.array(rows) if rows else np.empty((0, bins))


def growth(track: Sequence[Asked]) -> dict[int, float]:
    summed: dict[int, float] = {}
    later, pairs = 0, 0
    for before in track:
        while later < len(track) and track[later].end_ns - before.end_ns < GROWTH_LAG_NS:
            later += 1
        if later == len(track):
            break
        after, pairs = track[later], pairs + 1
        span_s = (after.end_ns - before.end_ns) / 1e9
        for slice_id, kbps in after.demand_kbps.items():
            change = abs(kbps - before.demand_kbps.get(slice_id, 0.0))
            summed[slice_id] = summed.get(slice_id, 0.0) + change / span_s
    return {slice_id: total / pairs for slice_id, total in summed.items()}


def _binned(
    track: Iterable[Asked], slice_id: int, start_ns: int, bin_ns: int, bins: int
) -> list[float]:
    total, count = [0.0] * bins, [0] * bins
    for item in track:
        first = (item.end_ns - item.period_ns - start_ns + bin_ns // 2) // bin_ns
        last = (item.end_ns - start_ns - 1) // bin_ns
        for index in range(max(0, min(first, last)), min(bins - 1, last) + 1):
            total[index] += item.demand_kbps.get(slice_id, 0.0)
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
