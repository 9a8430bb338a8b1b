"""One way to say a distribution in a summary: {"p50", "p95", ...}, None without samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_NAMES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


def percentiles(
    values: npt.NDArray[np.float64] | Sequence[float],
    names: Sequence[str] = ("p50", "p95", "p99", "p999"),
) -> dict[str, float | None]:
    if len(values) == 0:
        return dict.fromkeys(names)
    found = np.percentile(values, [_NAMES[name] for name in names])
    return {name: round(float(value), 6) for name, value in zip(names, found, strict=True)}
