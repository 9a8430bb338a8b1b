"""Local processing (VL3): what a cell's users report of one window, summed per slice.

Pure.  Only downlink flows count, because reservations are on the downlink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from controller.contracts.twin_messages import SliceDemand, UserReport


class SliceSample(NamedTuple):
    """One user's downlink in one slice: L2 kbit/s offered, L2 kbit/s of it lost, goodput."""

    demand_kbps: float = 0.0
    lost_kbps: float = 0.0
    goodput_kbps: float = 0.0
    owd_p95_ms: float | None = None


class UserSample(NamedTuple):
    """What one report says of its window; has every slice the user has a session in.

    `period_ns`: until the next datagram of this user is due.
    """

    window_end_ns: int
    period_ns: int
    slices: Mapping[int, SliceSample]


_NOTHING = SliceSample()
_said = attrgetter("up", "slice_id", "demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms")


def sample_of(report: UserReport, slice_ids: Iterable[int]) -> UserSample:
    """The report's downlink by slice; slices without a flow are zero."""
    slices = dict.fromkeys(slice_ids, _NOTHING)
    for up, slice_id, demand_kbps, goodput_kbps, loss_ratio, delay_ms in map(_said, report.flows):
        if up:
            continue
        lost_kbps = demand_kbps * loss_ratio
        so_far = slices.get(slice_id, _NOTHING)
        if so_far is not _NOTHING:
            before_kbps, lost_before_kbps, goodput_before_kbps, worst_ms = so_far
            demand_kbps += before_kbps
            lost_kbps += lost_before_kbps
            goodput_kbps += goodput_before_kbps
            if delay_ms is None or (worst_ms is not None and worst_ms > delay_ms):
                delay_ms = worst_ms
        slices[slice_id] = SliceSample(demand_kbps, lost_kbps, goodput_kbps, delay_ms)
    period_ns = report.period_ms * 1_000_000
    due_ns = period_ns * report.batch_reports
    return UserSample((report.window + 1) * period_ns, due_ns, slices)


def mean_slices(samples: Sequence[UserSample]) -> Mapping[int, SliceSample]:
    """One user's samples within one window (at least one): rates averaged, delay the worst."""
    if len(samples) == 1:
        return samples[0].slices
    share = 1 / len(samples)
    means: dict[int, SliceSample] = {}
    for slice_id in {s for sample in samples for s in sample.slices}:
        parts = [sample.slices.get(slice_id, _NOTHING) for sample in samples]
        means[slice_id] = SliceSample(
            share * sum(p.demand_kbps for p in parts),
            share * sum(p.lost_kbps for p in parts),
            share * sum(p.goodput_kbps for p in parts),
            worst_delay_ms(p.owd_p95_ms for p in parts),
        )
    return means


def sum_slices(
    users: Iterable[Mapping[int, SliceSample]], slice_ids: Iterable[int]
) -> list[SliceDemand]:
    """One entry for each of `slice_ids`, in that order; zero demand where nobody asks.

    `users` counts reporting users with a session in the slice; loss is weighted
    with demand; the delay is the worst user's p95.
    """
    by_slice: dict[int, list[SliceSample]] = {slice_id: [] for slice_id in slice_ids}
    for slices in users:
        for slice_id, sample in slices.items():
            if slice_id in by_slice:
                by_slice[slice_id].append(sample)
    return [_slice_demand(slice_id, samples) for slice_id, samples in by_slice.items()]


def _slice_demand(slice_id: int, samples: Sequence[SliceSample]) -> SliceDemand:
    demand_kbps = sum(s.demand_kbps for s in samples)
    lost_kbps = sum(s.lost_kbps for s in samples)
    return SliceDemand(
        slice_id=slice_id,
        users=len(samples),
        demand_kbps=round(demand_kbps, 3),
        goodput_kbps=round(sum(s.goodput_kbps for s in samples), 3),
        loss_ratio=round(lost_kbps / demand_kbps, 6) if demand_kbps > 0 else 0.0,
        owd_p95_ms=worst_delay_ms(s.owd_p95_ms for s in samples),
    )


def worst_delay_ms(delays_ms: Iterable[float | None]) -> float | None:
    return max((d for d in delays_ms if d is not None), default=None)
