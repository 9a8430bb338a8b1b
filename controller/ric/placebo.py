"""Policy `placebo`: the xApp runs as always, but its twin data are shuffled.

Measured values are permuted between (cell, slice) pairs and windows; trace, timing,
reservations and capacities stay true.  If a gain survives this, the twins did
not make it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

SHUFFLED = ("users", "demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms")
"""What was measured about a slice in a cell; permuted together, as one sample."""
COUNTED = (
    "arrived_kbps",
    "delivered_kbps",
    "sla_satisfied",
    "sla_satisfied_ratio",
    "utilisation_ratio",
    "demand_share_ratio",
    "requests_per_s",
    "compute_cores",
    "power_w",
    "energy_j",
)
"""What else is measured and stands in twins."""
POOL_SAMPLES = 256
"""Samples that wait for another place: some ten seconds of a dozen pairs."""


class Placebo:
    """A shuffle buffer: every sample comes out once, at another pair and time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._pool: list[dict[str, Any]] = []
        self._users: list[dict[str, Any]] = []

    def swap(
        self, sample: dict[str, Any], pool: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Takes in one sample, gives out another one drawn at random.

        Until the pool is full the drawn one also stays in it.
        """
        pool = self._pool if pool is None else pool
        if len(pool) < POOL_SAMPLES:
            pool.append(sample)
            return self._random.choice(pool)
        place = self._random.randrange(POOL_SAMPLES)
        drawn, pool[place] = pool[place], sample
        return drawn

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """A stream event with shuffled samples; events without slices pass as they are."""
        if event.get("kind") == "user":
            measured: dict[str, Any] = {g: event[g] for g in ("connectivity", "user") if g in event}
            return {**event, **self.swap(measured, self._users)}
        if "slices" not in event:
            return event
        slices = [
            {**item, **self.swap({name: item[name] for name in SHUFFLED if name in item})}
            for item in event["slices"]
        ]
        return {**event, "slices": slices}

    def twin(self, document: dict[str, Any]) -> dict[str, Any]:
        """A twin's document with the measured attributes' values permuted among themselves.

        Only like goes with like: demands with demands, delays with delays.  Forecasts from
        true data would give those away, so there are none.
        """
        attributes = {
            name: {k: v for k, v in attribute.items() if k != "predicted"}
            for name, attribute in document["attributes"].items()
        }
        for quantity in (*SHUFFLED, *COUNTED):
            names = [name for name in attributes if name.split(".")[0] == quantity]
            values = [attributes[name]["value"] for name in names]
            self._random.shuffle(values)
            for name, value in zip(names, values, strict=True):
                attributes[name] = {**attributes[name], "value": value}
        return {**document, "attributes": attributes}

    def series(self, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """A history with its values permuted over time."""
        values = [point["value"] for point in points]
        self._random.shuffle(values)
        return [{**point, "value": value} for point, value in zip(points, values, strict=True)]
