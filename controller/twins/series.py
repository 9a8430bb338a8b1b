"""Questions to a history: one attribute, a span of time, aggregated over steps of it. Pure.

The same answers for twins at the centre (rings of points) and users' twins at the edge (reports).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_UNITS_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
POINTS_MAX = 10_000


class SeriesError(ValueError):
    """A question that has no answer; the message says what would be right."""


class Sample(NamedTuple):
    """One value, as recorded."""

    window: int
    measured_at_ns: int
    value: Any


def duration_ns(text: str) -> int:
    """Of `250ms`, `10s`, `2m`, `1h`."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", text)
    if match is None or (length_ns := round(float(match[1]) * _UNITS_NS[match[2]])) <= 0:
        raise SeriesError(f"{text!r} is no duration; 250ms, 10s, 2m and 1h are")
    return length_ns


def moment_ns(text: str, now_ns: int) -> int:
    """A duration before now, or nanoseconds since 1970."""
    return int(text) if re.fullmatch(r"\d{1,19}", text) else now_ns - duration_ns(text)


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Linear between the two nearest, as numpy's default."""
    place = level * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "sum": sum,
    "count": len,
    "last": lambda values: values[-1],
    "p50": lambda values: _quantile(sorted(values), 0.5),
    "p95": lambda values: _quantile(sorted(values), 0.95),
    "p99": lambda values: _quantile(sorted(values), 0.99),
}


@dataclass(frozen=True)
class Query:
    """`since_ns` inclusive, `until_ns` exclusive; `every_ns` None: one value for all of it."""

    attribute: str
    since_ns: int | None = None
    until_ns: int | None = None
    aggregate: str | None = None
    every_ns: int | None = None
    last: int = POINTS_MAX

    def __post_init__(self) -> None:
        if self.aggregate is not None and self.aggregate not in AGGREGATES:
            raise SeriesError(
                f"unknown aggregate {self.aggregate!r}; known: {', '.join(AGGREGATES)}"
            )
        if self.every_ns is not None and self.aggregate is None:
            raise SeriesError("every needs an aggregate, for example mean")


def answer(samples: Iterable[Sample], query: Query) -> list[dict[str, Any]]:
    """Points oldest first: as recorded, or one for each step that has a value.

    A step's `measured_at` is its beginning; steps begin at whole multiples of their length.
    Raises `SeriesError` for an aggregate of what is no number.
    """
    chosen = [
        s
        for s in samples
        if (query.since_ns is None or s.measured_at_ns >= query.since_ns)
        and (query.until_ns is None or s.measured_at_ns < query.until_ns)
    ]
    if query.aggregate is None:
        points = [
            {"window": s.window, "measured_at": s.measured_at_ns, "value": s.value} for s in chosen
        ]
        return points[-query.last :]
    steps: dict[int, list[float]] = {}
    for sample in chosen:
        if sample.value is None:
            continue
        if not isinstance(sample.value, int | float):
            raise SeriesError(f"{query.attribute} is no number, so it has no {query.aggregate}")
        every_ns = query.every_ns
        start = sample.measured_at_ns // every_ns * every_ns if every_ns else None
        steps.setdefault(chosen[0].measured_at_ns if start is None else start, []).append(
            float(sample.value)
        )
    aggregate = AGGREGATES[query.aggregate]
    points = [
        {"window": None, "measured_at": at, "value": aggregate(values), "samples": len(values)}
        for at, values in sorted(steps.items())
    ]
    return points[-query.last :]
