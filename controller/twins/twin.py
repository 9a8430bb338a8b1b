"""A twin as data: versioned attributes with unit, time of measurement and source.

The functions return new twins; who keeps them and what feeds them is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

UNITS: dict[str, str | None] = {
    "users": "count",
    "users_reported": "count",
    "users_expected": "count",
    "demand_kbps": "kbit/s",
    "goodput_kbps": "kbit/s",
    "loss_ratio": "ratio",
    "owd_p95_ms": "ms",
    "sla_satisfied": "bool",
    "min_kbps": "kbit/s",
    "max_kbps": "kbit/s",
    "reserved_kbps": "kbit/s",
    "capacity_kbps": "kbit/s",
    "reservable_kbps": "kbit/s",
    "arrived_kbps": "kbit/s",
    "delivered_kbps": "kbit/s",
    "utilisation_ratio": "ratio",
    "demand_share_ratio": "ratio",
    "requests_per_s": "1/s",
    "compute_cores": "cores",
    "cache_bytes": "bytes",
    "sla_satisfied_ratio": "ratio",
    "power_w": "W",
    "energy_j": "J",
    "reservation": None,
    "handover": None,
    "uav_position_m": "m",
}
"""The one table of level-two attribute names (before any `.suffix`; without a group before it).
None: a name, not a quantity."""


@dataclass(frozen=True)
class Prediction:
    """A forecast of an attribute by `source`: its median, and quantiles where it has them."""

    value: float
    made_at_ns: int
    source: str
    quantiles: Mapping[str, float] = field(default_factory=dict)
    horizon_ms: int | None = None
    """None: `source` does not say."""


@dataclass(frozen=True)
class Attribute:
    """One value with its provenance.  `period_ms` None: set on change, not sampled."""

    value: float | None
    measured_at_ns: int
    period_ms: int | None
    source: str
    predicted: Prediction | None = None


@dataclass(frozen=True)
class Twin:
    """`version` counts the updates that changed it."""

    kind: str
    twin_id: str
    version: int = 0
    updated_at_ns: int = 0
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def updated(twin: Twin, attributes: Mapping[str, Attribute], now_ns: int) -> Twin:
    """The twin with these attributes; forecasts stay until a newer one replaces them."""
    kept = {
        name: replace(attribute, predicted=twin.attributes[name].predicted)
        if attribute.predicted is None and name in twin.attributes
        else attribute
        for name, attribute in attributes.items()
    }
    return replace(
        twin,
        version=twin.version + 1,
        updated_at_ns=now_ns,
        attributes=MappingProxyType({**twin.attributes, **kept}),
    )


def unit_of(attribute: str) -> str | None:
    return UNITS[attribute.split(".", 1)[0]]


def twin_document(twin: Twin, now_ns: int) -> dict[str, Any]:
    """The twin as the API shows it; ages are of `now_ns`."""
    return {
        **twin_summary(twin, now_ns),
        "attributes": {
            name: attribute_document(name, attribute, now_ns)
            for name, attribute in sorted(twin.attributes.items())
        },
    }


def twin_summary(twin: Twin, now_ns: int) -> dict[str, Any]:
    """`age_ms` None: the twin was never updated."""
    age_ms = (now_ns - twin.updated_at_ns) / 1e6 if twin.version else None
    return {"kind": twin.kind, "id": twin.twin_id, "version": twin.version, "age_ms": age_ms}


def attribute_document(name: str, attribute: Attribute, now_ns: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "value": attribute.value,
        "unit": unit_of(name),
        "measured_at": attribute.measured_at_ns,
        "age_ms": (now_ns - attribute.measured_at_ns) / 1e6,
        "period_ms": attribute.period_ms,
        "source": attribute.source,
    }
    if (prediction := attribute.predicted) is not None:
        document["predicted"] = {
            "value": prediction.value,
            "made_at": prediction.made_at_ns,
            "source": prediction.source,
        }
        if prediction.quantiles:
            document["predicted"] |= {
                "quantiles": dict(prediction.quantiles),
                "horizon_ms": prediction.horizon_ms,
            }
    return document
