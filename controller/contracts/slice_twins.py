"""The twin models of slices (level two) as they are now: the document and what VL6 changed.

Overrides of type `slice` are for all slices' twins, `slice_twin` for one's.  A slice's
entry is in every n-th aggregate of its cells, rounded; the centre keeps the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from controller.contracts.slices import Strict
from controller.contracts.twin_messages import SliceDemand
from controller.contracts.twin_models import (
    AttributeModel,
    Changes,
    Override,
    Readers,
    TwinModel,
    TwinModelError,
    folded,
)

SLICE_TYPE = "slice"
REPORTED = ("demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms")
"""Attributes that aggregates carry as measured rates, so that can be rounded there."""
FORECAST = "demand_kbps"


class SliceTwinSettings(Strict):
    """One slice's model, resolved.  `period_ms`: between two entries of it from a cell."""

    period_ms: int
    every: int
    """It is in each n-th aggregate of a cell."""
    history_length: int
    attributes: dict[str, AttributeModel]

    def predicts(self, name: str) -> bool:
        return name in self.attributes and self.attributes[name].predicted

    @property
    def hidden(self) -> frozenset[str]:
        """Attributes that no xApp may read."""
        return frozenset(n for n, a in self.attributes.items() if a.readers is Readers.OPERATOR)


def is_of_slices(override: Override) -> bool:
    return override.type == SLICE_TYPE or override.slice_twin is not None


def check_of_slices(changes: Changes, aggregate_period_ms: int) -> None:
    """Raises `TwinModelError` for what a slice's twin does not have."""
    for name, reason in (
        ("upload", "local controllers push aggregates"),
        ("batch_reports", "an aggregate is one window of a cell"),
        ("attribute_period_ms", "its attributes come together; set period_ms"),
        ("represented_by", "users represent users"),
    ):
        if getattr(changes, name) not in (None, {}):
            raise TwinModelError(f"a slice's twin has no {name}: {reason}")
    if changes.period_ms is not None and changes.period_ms % aggregate_period_ms:
        raise TwinModelError(
            f"a slice's twin follows its cells' aggregates, one each {aggregate_period_ms} ms: "
            f"period_ms {changes.period_ms} is no multiple of that"
        )
    for name in sorted(changes.precision.keys() - set(REPORTED)):
        raise TwinModelError(f"{name} is not rounded: only {', '.join(REPORTED)} are sent")
    for name in sorted(changes.predicted.keys() - {FORECAST}):
        raise TwinModelError(f"nobody forecasts {name} of a slice: only {FORECAST}")


def resolve_slice(
    model: TwinModel,
    s_nssai: str,
    overrides: Iterable[Override],
    aggregate_period_ms: int,
    scenario_history: int,
) -> SliceTwinSettings:
    settings: dict[str, Any] = {
        "period_ms": model.report_period_ms or aggregate_period_ms,
        "history_length": model.history_length or scenario_history,
    }
    own = (o for o in overrides if o.type == SLICE_TYPE or o.slice_twin == s_nssai)
    attributes = folded(settings, model, own)
    every = max(1, round(settings["period_ms"] / aggregate_period_ms))
    return SliceTwinSettings(**settings, every=every, attributes=attributes)


def due(demand: SliceDemand, settings: SliceTwinSettings, window: int) -> SliceDemand | None:
    """The entry as the slice's twin wants it; None in windows that it does not want."""
    if window % settings.every:
        return None
    rounded: dict[str, float] = {}
    for name in REPORTED:
        step, value = settings.attributes[name].precision, getattr(demand, name)
        if step and value is not None:
            rounded[name] = round(round(value / step) * step, 9)
    return demand.model_copy(update=rounded) if rounded else demand


def all_due(
    demands: Sequence[SliceDemand], settings: dict[int, SliceTwinSettings], window: int
) -> list[SliceDemand]:
    """`settings` by slice_id; a slice without any is always due."""
    wanted = (
        due(d, settings[d.slice_id], window) if d.slice_id in settings else d for d in demands
    )
    return [d for d in wanted if d is not None]
