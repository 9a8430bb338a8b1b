"""What the switches counted: cumulative samples, and rates between two of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.contracts.slices import TrafficClass
from controller.twins.level_two import MeasuredRate

ClassKey = tuple[str, int, TrafficClass]
"""(cell_id, slice_id, traffic_class)"""


@dataclass(frozen=True)
class ClassCount:
    """L2 bytes of a (cell, slice, class) since its meter and queue exist."""

    arrived_bytes: int
    """At its meter, before the meter drops anything."""
    delivered_bytes: int | None
    """Sent by its queue; None when it has no queue of its own."""


@dataclass(frozen=True)
class UserMeterCount:
    """L2 bytes since the meter exists."""

    arrived_bytes: int
    dropped_bytes: int


@dataclass(frozen=True)
class CounterSample:
    """All counters at one moment (CLOCK_REALTIME)."""

    taken_at_ns: int
    classes: Mapping[ClassKey, ClassCount]
    users: Mapping[tuple[str, str], int]
    """(ue_id, cell_id) -> L2 bytes delivered to the user through that cell."""
    user_meters: Mapping[tuple[str, int], UserMeterCount] = field(default_factory=dict)
    """(ue_id, slice_id), of users that a meter limits, downlink."""


@dataclass(frozen=True)
class ClassRate:
    """Mean rates over `duration_s`."""

    duration_s: float
    arrived_kbps: float
    delivered_kbps: float | None


def class_rate(earlier: CounterSample, later: CounterSample, key: ClassKey) -> ClassRate | None:
    """None when either sample lacks the class, or a counter started anew between them."""
    before, after = earlier.classes.get(key), later.classes.get(key)
    duration_s = (later.taken_at_ns - earlier.taken_at_ns) / 1e9
    if before is None or after is None or duration_s <= 0:
        return None
    arrived_bytes = after.arrived_bytes - before.arrived_bytes
    if arrived_bytes < 0:
        return None
    delivered_kbps = None
    if before.delivered_bytes is not None and after.delivered_bytes is not None:
        delivered_bytes = after.delivered_bytes - before.delivered_bytes
        if delivered_bytes < 0:
            return None
        delivered_kbps = delivered_bytes * 8 / 1000 / duration_s
    return ClassRate(duration_s, arrived_bytes * 8 / 1000 / duration_s, delivered_kbps)


def measured_rates(earlier: CounterSample, later: CounterSample) -> list[MeasuredRate]:
    """Rates of every class that both samples have."""
    rates = {key: class_rate(earlier, later, key) for key in later.classes}
    return [
        MeasuredRate(*key, arrived_kbps=rate.arrived_kbps, delivered_kbps=rate.delivered_kbps)
        for key, rate in rates.items()
        if rate is not None
    ]
