"""A forecast in a user twin: the model's numbers, and what they mean when somebody asks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson


class Forecasts(Protocol):
    """Of many users, made together."""

    def horizons(self, row: int) -> list[dict[str, Any]]:
        """JSON-ready, each with `horizon_ms`, `value` and how far off it may be
        (`quantiles`, or `radius_m` by probability)."""
        ...


@dataclass(frozen=True, slots=True)
class _Written:
    """One forecast, as JSON."""

    encoded: bytes

    def horizons(self, row: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = orjson.loads(self.encoded)
        return found


class Prediction(NamedTuple):
    """Of one attribute, made by model `source`; read far more rarely than made, so the model's
    numbers stay as they came, and what they mean is written down when it is asked for."""

    made_at_ns: int
    source: str
    forecasts: Forecasts
    row: int = 0
    """In `forecasts`."""

    @classmethod
    def of(cls, made_at_ns: int, source: str, horizons: Iterable[Mapping[str, Any]]) -> Prediction:
        """One that came from elsewhere; `horizons` as `Forecasts.horizons`."""
        # orjson's own buffer stays as large as it was made: 4 KiB for 200 bytes.
        encoded = memoryview(orjson.dumps([*horizons])).tobytes()
        return cls(made_at_ns, source, _Written(encoded))

    @property
    def horizons(self) -> list[dict[str, Any]]:
        return self.forecasts.horizons(self.row)
