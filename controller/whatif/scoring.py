"""What a course means for the slices: SLA windows, rates, loss, delay, and one score.

The definitions are the results' own (`topologies/results/sla.py`), on what twins know: the
downlink.  A window is 1 s; a slice holds in it when every term of its SLA does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.contracts.slices import Slice
from controller.whatif.calibration import Calibration
from controller.whatif.emulator import Course
from controller.whatif.links import FloatArray
from controller.whatif.paths import Paths

WINDOW_MS = 1000
GOODPUT_TOLERANCE_RATIO = 0.01
RESERVED_PRICE = 0.02
"""What holding all that is reservable costs in satisfied windows: of two plans that satisfy
the same, the smaller one wins, and no plan may buy capacity with windows."""


@dataclass(frozen=True)
class SliceOutcome:
    """One slice over a course; rates are network wide means."""

    slice_id: int
    satisfied_ratio: float
    offered_kbps: float
    delivered_kbps: float
    loss_ratio: float
    owd_mean_ms: float
    owd_p95_ms: float
    """Mean over windows of each window's percentile; the twins' own figure is of this kind."""


@dataclass(frozen=True)
class Delays:
    """What a packet of each (cell, slice) needs without a queue [cell, slice]: the same on its
    wires, the median in switches, whose spread the calibration knows."""

    wires_ms: FloatArray
    switching_ms: FloatArray
    calibration: Calibration

    @classmethod
    def on(cls, paths: Paths, calibration: Calibration) -> Delays:
        return cls(calibration.wires_ms(paths), calibration.switching_ms(paths), calibration)

    def percentile_ms(self, wait_ms: FloatArray, cell: int, column: int, q: float) -> FloatArray:
        spread = float(self.calibration.spread(np.array(q)))
        return self._ms(wait_ms, cell, column, spread)

    def mean_ms(self, wait_ms: FloatArray, cell: int, column: int) -> FloatArray:
        return self._ms(wait_ms, cell, column, self.calibration.mean_spread)

    def _ms(self, wait_ms: FloatArray, cell: int, column: int, spread: float) -> FloatArray:
        waited = self.calibration.wait_ratio * wait_ms
        unqueued_ms = self.wires_ms[cell, column] + spread * self.switching_ms[cell, column]
        return np.asarray(unqueued_ms + waited)


def score(satisfied_ratio: float, reserved_ratio: float) -> float:
    """SLA satisfaction at what it holds; `reserved_ratio`: of what is reservable."""
    return satisfied_ratio - RESERVED_PRICE * reserved_ratio


def outcomes(
    course: Course, rows: slice, slices: Sequence[Slice], columns: Sequence[int], delays: Delays
) -> list[SliceOutcome]:
    """Of one fork, whose links are `rows`; `columns[i]` is the column of `slices[i]`."""
    return [
        _outcome(course, rows, slice_, column, delays)
        for slice_, column in zip(slices, columns, strict=True)
    ]


def _outcome(
    course: Course, rows: slice, slice_: Slice, column: int, delays: Delays
) -> SliceOutcome:
    per_window = max(1, round(WINDOW_MS / course.step_ms))
    windows = max(1, course.offered_kbps.shape[0] // per_window)
    offered = _by_window(course.offered_kbps[:, rows, column], windows, per_window)
    delivered = _by_window(course.delivered_kbps[:, rows, column], windows, per_window)
    lost = _by_window(course.lost_kbps[:, rows, column], windows, per_window)
    wait_ms = _by_window(course.wait_ms[:, rows, column], windows, per_window)
    sla, held = slice_.sla, np.ones(windows, dtype=np.bool_)
    offered_w, lost_w = offered.mean(axis=1).sum(axis=1), lost.mean(axis=1).sum(axis=1)
    got_w = offered_w - lost_w  # a packet counts in the window it was sent in
    promised = np.minimum(offered_w, 1000 * sla.guaranteed_mbps)
    held &= got_w >= (1 - GOODPUT_TOLERANCE_RATIO) * promised
    if sla.loss_ratio is not None:
        held &= lost_w <= sla.loss_ratio * offered_w + 1e-9
    weight = np.maximum(offered - lost, 0.0)
    percentile = sla.delay.percentile if sla.delay else 95.0
    owd = np.stack(
        [
            delays.percentile_ms(wait_ms[:, :, cell], cell, column, percentile / 100)
            for cell in range(wait_ms.shape[2])
        ],
        axis=2,
    )
    delay_w = np.array(
        [_percentile(owd[w].ravel(), weight[w].ravel(), percentile) for w in range(windows)]
    )
    if sla.delay is not None:
        held &= ~(delay_w > sla.delay.bound_ms)
    mean = np.stack(
        [delays.mean_ms(wait_ms[:, :, cell], cell, column) for cell in range(wait_ms.shape[2])],
        axis=2,
    )
    total = float(weight.sum())
    return SliceOutcome(
        slice_id=slice_.slice_id,
        satisfied_ratio=float(held.mean()),
        offered_kbps=float(offered_w.mean()),
        delivered_kbps=float(delivered.mean(axis=1).sum(axis=1).mean()),
        loss_ratio=float(lost_w.sum() / offered_w.sum()) if offered_w.sum() > 0 else 0.0,
        owd_mean_ms=float((mean * weight).sum() / total) if total > 0 else 0.0,
        owd_p95_ms=float(np.nanmean(delay_w)) if np.isfinite(delay_w).any() else 0.0,
    )


def _by_window(values: FloatArray, windows: int, per_window: int) -> FloatArray:
    """[window, step, cell]."""
    kept = values[: windows * per_window]
    return kept.reshape(windows, -1, values.shape[1])


def _percentile(values: FloatArray, weight: FloatArray, percentile: float) -> float:
    """Weighted; NaN when nothing has weight."""
    order = np.argsort(values)
    summed: npt.NDArray[np.float64] = np.cumsum(weight[order])
    if summed[-1] <= 0:
        return float("nan")
    return float(values[order[np.searchsorted(summed, percentile / 100 * summed[-1] - 1e-9)]])
