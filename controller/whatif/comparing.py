"""Prediction against what twins then showed: relative errors per slice. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from controller.contracts.slices import Slice
from controller.whatif.predicting import Prediction
from controller.whatif.snapshot import Seen

GOODPUT_TOLERANCE_RATIO = 0.01
TWIN_LOSS_NOISE_RATIO = 0.002
"""Packets on their way at a window's end look lost to the one and extra to the next window."""


def measured(
    windows: Mapping[str, Sequence[Seen]], slices: Sequence[Slice]
) -> list[dict[str, Any]]:
    """Per slice over the windows that every cell reported, network wide; empty without any.

    A window is a twin's (half a second), its delay the worst cell's 95th percentile.
    """
    common = set.intersection(*({w.window for w in of_cell} for of_cell in windows.values()))
    by_cell = [[w for w in of_cell if w.window in common] for of_cell in windows.values()]
    if not common:
        return []
    return [_of_slice(by_cell, index, slice_) for index, slice_ in enumerate(slices)]


def _of_slice(by_cell: Sequence[Sequence[Seen]], index: int, slice_: Slice) -> dict[str, Any]:
    demand = np.array([[w.demand_kbps[index] for w in cell] for cell in by_cell])
    goodput = np.array([[w.goodput_kbps[index] for w in cell] for cell in by_cell])
    loss = np.array([[w.loss_ratio[index] for w in cell] for cell in by_cell])
    owd = np.array([[w.owd_p95_ms[index] for w in cell] for cell in by_cell])
    offered = demand.sum(axis=0)
    lost = (demand * loss).sum(axis=0)
    worst = np.fmax.reduce(owd, axis=0)
    sla = slice_.sla
    promised = np.minimum(offered, 1000 * sla.guaranteed_mbps)
    tolerance = GOODPUT_TOLERANCE_RATIO + TWIN_LOSS_NOISE_RATIO
    held = offered - lost >= (1 - tolerance) * promised
    if sla.loss_ratio is not None:
        held &= lost <= (sla.loss_ratio + TWIN_LOSS_NOISE_RATIO) * offered
    if sla.delay is not None:
        held &= ~(worst > sla.delay.bound_ms)
    return {
        "s_nssai": slice_.s_nssai.model_dump(),
        "slice_id": slice_.slice_id,
        "windows": int(offered.size),
        "satisfied_ratio": float(held.mean()),
        "offered_kbps": float(offered.mean()),
        "delivered_kbps": float((offered - lost).mean()),
        "goodput_kbps": float(goodput.sum(axis=0).mean()),
        "loss_ratio": float(lost.sum() / offered.sum()) if offered.sum() > 0 else 0.0,
        "owd_p95_ms": float(np.nanmean(worst)) if np.isfinite(worst).any() else None,
    }


def compared(prediction: Prediction, truth: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`error_ratio`: (predicted - measured) / measured, None where nothing was measured."""
    slices = []
    for predicted in prediction.slices:
        found = next((t for t in truth if t["slice_id"] == predicted.slice_id), None)
        if found is None:
            continue
        slices.append(
            {
                "s_nssai": found["s_nssai"],
                "measured": {k: v for k, v in found.items() if k not in ("s_nssai", "slice_id")},
                "error_ratio": {
                    name: _relative(getattr(predicted, name), found[name])
                    for name in ("offered_kbps", "delivered_kbps", "owd_p95_ms")
                },
                "satisfied_error": predicted.satisfied_ratio - found["satisfied_ratio"],
            }
        )
    satisfied = [t["satisfied_ratio"] for t in truth]
    return {
        "predicted_satisfied_ratio": prediction.satisfied_ratio,
        "measured_satisfied_ratio": float(np.mean(satisfied)) if satisfied else None,
        "slices": slices,
    }


def _relative(predicted: float, truth: float | None) -> float | None:
    return (predicted - truth) / truth if truth else None
