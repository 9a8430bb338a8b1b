"""Users who are represented by others: their share of an aggregate, estimated.

When a representative's report comes, every user here that it stands for gets a sample
of its own in the window: the representative's, scaled slice by slice.  The scale is
learned from the represented user's own, rare reports.  Pure, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from controller.local.aggregation import SliceSample, UserSample
from controller.local.demand_tracks import DemandTracks

LEARNED_RATIO = 0.5
"""How far one own report moves the scale."""
MAX_SCALE = 100.0


@dataclass
class _Standing:
    """One represented user: scale by slice, and what was estimated since its last report."""

    representative: str
    scale: dict[int, float] = field(default_factory=dict)
    estimated: dict[int, float] = field(default_factory=dict)
    samples: int = 0


class Representation:
    """`representative_of` says who stands for a user by its twin model now, or None;
    `is_here` whether this edge serves it."""

    def __init__(
        self,
        representative_of: Callable[[str], str | None],
        is_here: Callable[[str], bool],
        tracks: DemandTracks,
    ) -> None:
        self._representative_of = representative_of
        self._is_here = is_here
        self._tracks = tracks
        self._standing: dict[str, _Standing] = {}
        self.estimates = 0
        """Samples made for others."""

    def change(self, ue_ids: Iterable[str]) -> None:
        """Twin models are others now; `ue_ids`: all users of the network."""
        before, self._standing = self._standing, {}
        for ue_id in ue_ids:
            representative = self._representative_of(ue_id)
            if representative is None:
                continue
            known = before.get(ue_id)
            if known is None or known.representative != representative:
                known = _Standing(representative)
            self._standing[ue_id] = known

    def samples(
        self, ue_id: str, sample: UserSample, period_ns: int
    ) -> list[tuple[str, UserSample]]:
        """What one user's report puts into windows: its own sample unless others stand for it,
        and one of each user here for whom it stands.  `period_ns`: of the report."""
        self._tracks.observe(ue_id, sample, period_ns)
        if not self._standing:
            return [(ue_id, sample)]
        self._learn(ue_id, sample)
        own = [] if self._is_estimated(ue_id) else [(ue_id, sample)]
        return own + self._estimated(ue_id, sample)

    def _estimated(self, ue_id: str, sample: UserSample) -> list[tuple[str, UserSample]]:
        found = []
        for other, standing in self._standing.items():
            if standing.representative != ue_id or not self._is_here(other):
                continue
            if not standing.scale:
                standing.scale = self._first_scale(other, ue_id)
            if standing.scale:
                slices = {**self._last_of(other), **_estimate(standing, sample)}
                found.append((other, sample._replace(slices=slices)))
        self.estimates += len(found)
        return found

    def _is_estimated(self, ue_id: str) -> bool:
        """Whether others' reports count for this user and its own only teach."""
        standing = self._standing.get(ue_id)
        return (
            standing is not None and bool(standing.scale) and self._is_here(standing.representative)
        )

    def _last_of(self, ue_id: str) -> dict[int, SliceSample]:
        """As the user said itself: for slices in which its representative asks for nothing."""
        last = self._tracks.latest(ue_id)
        return {s: SliceSample(kbps) for s, kbps in last.demand_kbps.items()} if last else {}

    def _learn(self, ue_id: str, sample: UserSample) -> None:
        """An own report of a represented user, over the time since the one before."""
        standing = self._standing.get(ue_id)
        if standing is None or not standing.samples:
            return
        for slice_id, own in sample.slices.items():
            mean_kbps = standing.estimated.get(slice_id, 0.0) / standing.samples
            scale = standing.scale.get(slice_id)
            if mean_kbps > 0 and scale is not None:
                factor = 1 + LEARNED_RATIO * (own.demand_kbps / mean_kbps - 1)
                standing.scale[slice_id] = min(MAX_SCALE, scale * factor)
        standing.estimated, standing.samples = {}, 0

    def _first_scale(self, ue_id: str, representative: str) -> dict[int, float]:
        """Of what both asked for lately; nothing as long as one of them is not known."""
        own, other = self._tracks.mean_kbps(ue_id), self._tracks.mean_kbps(representative)
        return {s: min(MAX_SCALE, own[s] / other[s]) for s in own if other.get(s, 0.0) > 0}

    def document(self) -> dict[str, dict[str, object]]:
        return {
            ue_id: {"by": s.representative, "scale": dict(s.scale)}
            for ue_id, s in self._standing.items()
        }


def _estimate(standing: _Standing, sample: UserSample) -> Mapping[int, SliceSample]:
    slices = {}
    for slice_id, scale in standing.scale.items():
        seen = sample.slices.get(slice_id, SliceSample())
        slices[slice_id] = SliceSample(
            scale * seen.demand_kbps, scale * seen.lost_kbps, scale * seen.goodput_kbps,
            seen.owd_p95_ms,
        )  # fmt: skip
        total = standing.estimated.get(slice_id, 0.0)
        standing.estimated[slice_id] = total + scale * seen.demand_kbps
    standing.samples += 1
    return slices
