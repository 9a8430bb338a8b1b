"""Errors of forecasts with how sure they are: ratios of sums, bootstrapped over whole traces.

Windows of one trace resemble each other, so what is drawn again is the trace, never the window.
Pure but for the random generator, which is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DRAWS = 2000
CONFIDENCE = 0.95
MASE_BOUND = 0.9
REFERENCE = "persistence"
MODEL = "model"


@dataclass(frozen=True)
class Losses:
    """Of one forecaster, a number a window: absolute error of its median, and the loss of its
    quantiles (`pinball`) or radii (`winkler`)."""

    absolute: FloatArray
    quantile: FloatArray


@dataclass(frozen=True)
class Ratio:
    """`low`-`high`: where it lies with `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio(
    above: FloatArray, below: FloatArray, cluster: IntArray, random: np.random.Generator
) -> Ratio:
    """sum(above) / sum(below); `cluster` [n]: which trace each of them comes from."""
    _, place = np.unique(cluster, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=values) for values in (above, below)])
    count = sums.shape[1]
    drawn = sums[:, random.integers(0, count, (DRAWS, count))].sum(axis=2)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn[0] / drawn[1], [tail, 1 - tail])
    return Ratio(float(sums[0].sum() / sums[1].sum()), float(low), float(high))


def scored(
    losses: Mapping[str, Losses], cluster: IntArray, random: np.random.Generator
) -> dict[str, dict[str, Ratio]]:
    """forecaster -> `mase` (over persistence's error on the same windows) and `loss_ratio`
    (the model's loss over this forecaster's: below 1, the model is better)."""
    reference, model = losses[REFERENCE], losses[MODEL]
    return {
        name: {
            "mase": ratio(own.absolute, reference.absolute, cluster, random),
            "loss_ratio": ratio(model.quantile, own.quantile, cluster, random),
        }
        for name, own in losses.items()
    }


def pinball(error: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """[n]: mean over the quantiles; `error` [n, quantile] is truth less forecast."""
    q = np.array(levels)
    return np.asarray(np.maximum(q * error, (q - 1) * error).mean(axis=1))


def winkler(distance: FloatArray, radius: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """[n]: how wide the discs are, plus what misses them over how often it may.

    `radius` [n, level].  Pinball loss of the radius alone would praise whoever is far off by a
    well-known distance; this is that loss over (1 - level) plus the distance itself.
    """
    beyond = np.maximum(distance[:, None] - radius, 0.0)
    return np.asarray((radius + beyond / (1 - np.array(levels))).mean(axis=1))


def misses(table: Mapping[str, Mapping[str, Mapping[str, Ratio]]]) -> list[str]:
    """What does not hold, in words: MASE below the bound, loss below every baseline's."""
    found = []
    for source, rows in table.items():
        mase = rows[MODEL]["mase"]
        if mase.value >= MASE_BOUND:
            found.append(f"{source}: MASE {mase} is not below {MASE_BOUND}")
        for name, row in rows.items():
            if name != MODEL and row["loss_ratio"].value >= 1:
                found.append(f"{source}: loss {row['loss_ratio']} of that of {name}")
    return found


def markdown(table: Mapping[str, Mapping[str, Mapping[str, Ratio]]]) -> str:
    lines = [
        "| held out | forecaster | MASE [95 %] | model's loss / this one's [95 %] |",
        "|---|---|---|---|",
    ]
    for source, rows in table.items():
        for name, row in rows.items():
            against = "" if name == MODEL else str(row["loss_ratio"])
            lines.append(f"| {source} | {name} | {row['mase']} | {against} |")
    return "\n".join(lines)


def as_json(table: Mapping[str, Mapping[str, Mapping[str, Ratio]]]) -> dict[str, Any]:
    return {
        source: {
            name: {figure: asdict(found) for figure, found in row.items()}
            for name, row in rows.items()
        }
        for source, rows in table.items()
    }
