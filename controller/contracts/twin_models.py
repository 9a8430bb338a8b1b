"""Twin models: what a twin of a type knows, how exactly, how often, and how it comes in.

A document per user type and one for slices stands in `controller/twins/models/`,
checked against `schema.json` there (which is this module's schema).  VL6 changes
them live: an `Override` per type, slice, edge or user goes over the document.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
import yaml
from pydantic import Field, ValidationError, model_validator

from controller.contracts.slices import Strict
from controller.contracts.twin_messages import (
    MAX_BATCH_REPORTS,
    MAX_REPORT_PERIOD_MS,
    MIN_REPORT_PERIOD_MS,
)

FOLDER = Path(__file__).resolve().parents[1] / "twins" / "models"
SCHEMA = FOLDER / "schema.json"
MAX_BATCH_SPAN_MS = 4000
"""A batch's oldest report must not be stale (5 s) when it arrives."""

PeriodMs = Annotated[int, Field(ge=MIN_REPORT_PERIOD_MS, le=MAX_REPORT_PERIOD_MS)]
Precision = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
HistoryLength = Annotated[int, Field(ge=1, le=3600)]
BatchReports = Annotated[int, Field(ge=1, le=MAX_BATCH_REPORTS)]


class TwinModelError(ValueError):
    """A document or an override that cannot be; one line says where and what is right."""


class Upload(StrEnum):
    PUSH = "push"
    """The user sends every period."""
    POLL = "poll"
    """The local controller asks every period, the user answers."""
    BATCH = "batch"
    """The user measures every period and sends `batch_reports` of them in one datagram."""


class Readers(StrEnum):
    SLICE = "slice"
    """Tokens of the slices that the attribute belongs to, and the operator."""
    OPERATOR = "operator"
    """Only the operator."""


class Layer(StrEnum):
    """What the testbed changes by itself, as these xApps; anybody else's word goes over it."""

    BUDGET = "twin-budget"
    REPRESENTATION = "twin-representation"


class AttributeModel(Strict):
    """`precision` is the step values are rounded to (0: as measured); `period_ms` None: every
    report has it.  `source`: where in the emulation the value comes from."""

    group: Literal[
        "connectivity", "services", "user", "use_case",
        "demand", "resources", "performance", "strategy",
    ]  # fmt: skip
    unit: str | None
    source: str
    precision: Precision = 0.0
    period_ms: PeriodMs | None = None
    predicted: bool = False
    readers: Readers = Readers.SLICE


class TwinModel(Strict):
    """`report_period_ms` None: the scenario's."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    level: Literal[1, 2]
    description: str
    report_period_ms: PeriodMs | None = None
    upload: Upload = Upload.PUSH
    batch_reports: BatchReports = 1
    history_length: HistoryLength | None = None
    """None: the scenario's."""
    attributes: dict[str, AttributeModel]


class Changes(Strict):
    """Of a model, live; what is None stays.  Dictionaries are by attribute."""

    period_ms: PeriodMs | None = None
    upload: Upload | None = None
    batch_reports: BatchReports | None = None
    history_length: HistoryLength | None = None
    precision: dict[str, Precision] = {}
    attribute_period_ms: dict[str, PeriodMs] = {}
    predicted: dict[str, bool] = {}
    readers: dict[str, Readers] = {}
    represented_by: str | None = None
    """The user whose reports stand for this one's in aggregates; its own say how much of it."""
    reset: bool = False
    """What was said of the scope before counts no more."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError(f"nothing to change; known: {', '.join(type(self).model_fields)}")
        return self


_SCOPES = ("type", "s_nssai", "edge", "ue_id", "slice_twin")


class Override(Strict):
    """Whose model changes: exactly one of `type`, `s_nssai` ("sst-sd"), `edge`, `ue_id`,
    `slice_twin` ("sst-sd"; the twin of the slice itself, where `s_nssai` means its users')."""

    type: str | None = None
    s_nssai: str | None = None
    edge: str | None = None
    ue_id: str | None = None
    slice_twin: str | None = None
    layer: Layer | None = None
    changes: Changes

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(name is not None for name in self.scope_names) != 1:
            raise ValueError(f"say whose twins: exactly one of {', '.join(_SCOPES)}")
        return self

    @property
    def scope_names(self) -> tuple[str | None, ...]:
        """From the general to the particular: a later scope's word counts more."""
        return (self.type, self.s_nssai, self.edge, self.ue_id, self.slice_twin)

    @property
    def _place(self) -> int:
        return next(i for i, name in enumerate(self.scope_names) if name is not None)

    @property
    def rank(self) -> tuple[bool, str, int]:
        """A layer's word below everybody's; then from the general to the particular."""
        return (self.layer is None, self.layer or "", self._place)

    @property
    def scope(self) -> str:
        place = self._place
        kind = ("type", "slice", "edge", "ue", "slice-twin")[place]
        layer = f"{self.layer}/" if self.layer else ""
        return f"{layer}{kind}:{self.scope_names[place]}"


class Subject(Strict):
    """What decides which overrides apply to one user's twin."""

    ue_id: str
    type: str
    s_nssais: tuple[str, ...]
    edge: str


class TwinSettings(Strict):
    """One user's model as it is now: its document and all overrides, resolved."""

    period_ms: int
    upload: Upload
    batch_reports: int
    history_length: int
    represented_by: str | None = None
    attributes: dict[str, AttributeModel]

    @property
    def upload_period_ms(self) -> int:
        """Between two datagrams."""
        return self.period_ms * (self.batch_reports if self.upload is Upload.BATCH else 1)

    def attribute(self, name: str) -> AttributeModel | None:
        """Of a twin's attribute; a service's is `services.<leaf>` in the model."""
        group, _, leaf = name.rpartition(".")
        return self.attributes.get(name) or self.attributes.get(f"{group.split('.')[0]}.{leaf}")

    def predicts(self, name: str) -> bool:
        model = self.attribute(name)
        return model is not None and model.predicted


class AgentSettings(Strict):
    """What a user agent needs of them: one UDP datagram in slice 0, local controller -> user.

    `every`: an attribute is in each n-th report; `precision`: the step it is rounded to.
    """

    version: int
    period_ms: int
    upload: Upload
    batch_reports: int
    every: dict[str, int]
    precision: dict[str, float]


AGENT_ATTRIBUTES = {
    "connectivity.rsrp_dbm": "rsrp_dbm",
    "user.location_m": "position_m",
    "user.speed_mps": "speed_mps",
    "services.demand_kbps": "demand_kbps",
    "services.goodput_kbps": "goodput_kbps",
    "services.loss_ratio": "loss_ratio",
    "services.owd_p95_ms": "owd_p95_ms",
    "use_case.heading_deg": "heading_deg",
    "use_case.odometer_m": "odometer_m",
    "use_case.operations": "operations",
}
"""Attributes that come from the agent -> their field of a report."""


def agent_settings(settings: TwinSettings) -> AgentSettings:
    """`version` is a fingerprint of the content, the same at every edge and after a restart."""
    known, period_ms = settings.attributes, settings.period_ms
    own = {f: known[a] for a, f in AGENT_ATTRIBUTES.items() if a in known}
    content: dict[str, Any] = {
        "period_ms": settings.period_ms,
        "upload": settings.upload,
        "batch_reports": settings.batch_reports,
        "every": {f: max(1, round((m.period_ms or 0) / period_ms)) for f, m in own.items()},
        "precision": {field: model.precision for field, model in own.items()},
    }
    version = zlib.crc32(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)) or 1
    return AgentSettings(version=version, **content)


def resolve(
    model: TwinModel,
    subject: Subject,
    overrides: Iterable[Override],
    scenario_period_ms: int,
    scenario_history: int,
) -> TwinSettings:
    """Raises `TwinModelError` when the overrides together cannot be."""
    settings: dict[str, Any] = {
        "period_ms": model.report_period_ms or scenario_period_ms,
        "upload": model.upload,
        "batch_reports": model.batch_reports,
        "history_length": model.history_length or scenario_history,
        "represented_by": None,
    }
    own = (o for o in overrides if applies(o, subject))
    attributes = folded(settings, model, own)
    resolved = TwinSettings(**settings, attributes=attributes)
    span_ms = resolved.upload_period_ms
    if resolved.upload is Upload.BATCH and span_ms > MAX_BATCH_SPAN_MS:
        raise TwinModelError(
            f"{subject.ue_id}: {resolved.batch_reports} reports of {resolved.period_ms} ms are "
            f"{span_ms} ms old when sent; at most {MAX_BATCH_SPAN_MS} ms is right"
        )
    return resolved


def folded(
    settings: dict[str, Any], model: TwinModel, overrides: Iterable[Override]
) -> dict[str, Any]:
    """The model's attributes under these overrides, the highest rank last; `settings` (by the
    names in `Changes`) are changed in place.

    Attributes that the model lacks are passed over: another type of the same slice or edge may
    have them.
    """
    attributes = {name: a.model_dump() for name, a in model.attributes.items()}
    for override in sorted(overrides, key=lambda o: o.rank):
        changes = override.changes
        for name in settings:
            value = getattr(changes, name)
            settings[name] = settings[name] if value is None else value
        for key, by_attribute in (
            ("precision", changes.precision),
            ("period_ms", changes.attribute_period_ms),
            ("predicted", changes.predicted),
            ("readers", changes.readers),
        ):
            for name, value in by_attribute.items():
                if name in attributes:
                    attributes[name][key] = value
    return attributes


def applies(override: Override, subject: Subject) -> bool:
    return (
        override.type == subject.type
        or override.edge == subject.edge
        or override.ue_id == subject.ue_id
        or override.s_nssai in subject.s_nssais
    )


def combined(overrides: Iterable[Override], new: Override) -> list[Override]:
    """With `new`: over what was said of the same scope before, at the end of the list."""
    before = [o for o in overrides if o.scope == new.scope and not new.changes.reset]
    others = [o for o in overrides if o.scope != new.scope]
    changes = before[-1].changes.model_dump(exclude_defaults=True) if before else {}
    for key, value in new.changes.model_dump(exclude_defaults=True, exclude={"reset"}).items():
        changes[key] = {**changes.get(key, {}), **value} if isinstance(value, dict) else value
    if not changes:
        return others
    return [*others, new.model_copy(update={"changes": Changes.model_validate(changes)})]


def load_models(folder: Path = FOLDER) -> dict[str, TwinModel]:
    """type -> document; raises `TwinModelError` naming the file and the place in it."""
    models: dict[str, TwinModel] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            model = TwinModel.model_validate(yaml.safe_load(path.read_text()))
        except yaml.YAMLError as error:
            raise TwinModelError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise TwinModelError(f"{path}: {place}: {fault['msg']}") from None
        if path.stem != model.type:
            raise TwinModelError(f"{path}: type {model.type!r}; the file's name is its type")
        models[model.type] = model
    if not models:
        raise TwinModelError(f"no twin models (*.yaml) in {folder}")
    return models


def model_of(models: Mapping[str, TwinModel], kind: str) -> TwinModel:
    if kind not in models:
        raise TwinModelError(f"no twin model of type {kind!r}; known: {', '.join(sorted(models))}")
    return models[kind]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the documents."""
    return TwinModel.model_json_schema()
