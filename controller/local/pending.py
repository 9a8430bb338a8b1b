"""One user's forecasts whose time has not come yet: rows of plain numbers, oldest first. Pure.

A forecast is of the moment `HORIZON_NS` after the report that it was made of.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import NamedTuple

HORIZON_NS = 2_000_000_000
WAITING_PER_USER = 256
_HEAD = 5
"""Numbers of a row before the services': when it was made, where the user was (x, y) and
where it is forecast to be (x, y)."""


class Forecast(NamedTuple):
    """Of one moment, from what the user reported at `made_at_ns`."""

    made_at_ns: float
    origin_m: tuple[float, float]
    place_m: tuple[float, float]
    demand_kbps: Mapping[str, tuple[float, float]]
    """By service: persistence's, and the forecast's median."""


class Pending:
    """Places and demands are judged apart: demands up to half a period before their moment."""

    __slots__ = ("_demands_judged", "_numbers", "_services")

    def __init__(self) -> None:
        self._numbers = array("d")
        self._services: tuple[str, ...] = ()
        self._demands_judged = 0
        """So many of the first rows had their demands judged."""

    def __len__(self) -> int:
        return len(self._numbers) // self._width

    @property
    def _width(self) -> int:
        return _HEAD + 2 * len(self._services)

    def add(self, made: Forecast) -> None:
        if made.demand_kbps.keys() != {*self._services}:
            self._change_services(tuple(made.demand_kbps))
        self._numbers.extend((made.made_at_ns, *made.origin_m, *made.place_m))
        for service in self._services:
            self._numbers.extend(made.demand_kbps.get(service, (math.nan, math.nan)))
        if len(self) > WAITING_PER_USER:
            del self._numbers[: self._width]
            self._demands_judged = max(0, self._demands_judged - 1)

    def is_due(self, at_ns: int, period_ns: int) -> bool:
        """Whether a report of then, of such a period, judges anything."""
        numbers = self._numbers
        if not numbers:
            return False
        unjudged = self._demands_judged * (_HEAD + 2 * len(self._services))
        return numbers[0] + HORIZON_NS <= at_ns or (
            unjudged < len(numbers) and numbers[unjudged] + HORIZON_NS <= at_ns + period_ns // 2
        )

    def due_demands(self, at_ns: float) -> list[Forecast]:
        """Whose moment has come by then; each once."""
        found = []
        while self._demands_judged < len(self):
            forecast = self._row(self._demands_judged)
            if forecast.made_at_ns + HORIZON_NS > at_ns:
                break
            self._demands_judged += 1
            found.append(forecast)
        return found

    def due_places(self, at_ns: float) -> list[Forecast]:
        """Whose moment has come by then; they are gone afterwards, their demands were judged."""
        found = []
        while self._numbers and self._numbers[0] + HORIZON_NS <= at_ns:
            found.append(self._row(0))
            del self._numbers[: self._width]
            self._demands_judged = max(0, self._demands_judged - 1)
        return found

    def _row(self, index: int) -> Forecast:
        made_at_ns, x, y, to_x, to_y, *demands = self._numbers[
            index * self._width : (index + 1) * self._width
        ]
        by_service = {
            service: (naive_kbps, median_kbps)
            for service, naive_kbps, median_kbps in zip(
                self._services, demands[::2], demands[1::2], strict=True
            )
            if not math.isnan(naive_kbps)
        }
        return Forecast(made_at_ns, (x, y), (to_x, to_y), by_service)

    def _change_services(self, wanted: tuple[str, ...]) -> None:
        """Columns for these; those of others stay while a row has them."""
        rows = [self._row(index) for index in range(len(self))]
        held = dict.fromkeys((*wanted, *(s for row in rows for s in row.demand_kbps)))
        self._services = tuple(held)
        self._numbers = array("d")
        for made_at_ns, origin_m, place_m, demand_kbps in rows:
            self._numbers.extend((made_at_ns, *origin_m, *place_m))
            for service in self._services:
                self._numbers.extend(demand_kbps.get(service, (math.nan, math.nan)))
