"""From a decision request to what it means in this network. Pure.

Checks the shape of `target` and `parameters` by action and resolves every name
against the inventory; what is allowed is the guard's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from controller.contracts.decisions import Action, DecisionRequest, ReservationRequest
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.live_slices import SliceSpec
from controller.contracts.services import task_services
from controller.contracts.slices import Slice, SNssai, Strict, TrafficClass
from controller.contracts.twin_models import Changes, Layer, Override
from controller.ric.errors import Malformed, NotFound
from controller.ric.intent_parsing import known_cell, known_slice, parse
from controller.ric.user_intents import (
    AdaptLinkIntent,
    MigrateTwinIntent,
    OffloadIntent,
    ScheduleIntent,
    adapt_link,
    migrate_twin,
    offload,
    schedule,
)

HOPS_MAX = 32
BASED_ON_MAX = 64
LABEL_MAX = 128
"""Characters of a hop's name or a measurement id."""

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CellTarget(Strict):
    cell_id: str
    s_nssai: SNssai | None = None
    traffic_class: TrafficClass | None = None


class OneReservation(Strict):
    min_kbps: Rate
    max_kbps: Rate
    traffic_class: TrafficClass | None = None
    predicted_kbps: Rate | None = None


class CellPlan(Strict):
    reservations: Annotated[list[ReservationRequest], Field(min_length=1, max_length=64)]


class UserTarget(Strict):
    ue_id: str


class UsersTarget(Strict):
    ue_ids: Annotated[list[str], Field(min_length=1, max_length=4096)]


class ServingCell(Strict):
    cell_id: str


class SliceTarget(Strict):
    s_nssai: SNssai


class SliceInCell(Strict):
    s_nssai: SNssai
    cell_id: str


class Coverage(Strict):
    covered: bool = True
    min_mbps: Rate | None = None
    max_mbps: Rate | None = None


class ServiceTarget(Strict):
    service: str


class ServingHost(Strict):
    host: str


@dataclass(frozen=True)
class ReserveIntent:
    """`target` names what a newer decision would supersede; `lock` what is changed together."""

    cell_id: str
    changes: tuple[Reservation, ...]
    predicted_kbps: Mapping[int, float]
    """slice_id -> the xApp's median forecast."""
    target: str
    document: tuple[dict[str, Any], dict[str, Any]]
    """Canonical (target, parameters) for the record."""

    @property
    def lock(self) -> str:
        return f"cell:{self.cell_id}"


@dataclass(frozen=True)
class HandoverIntent:
    ue_id: str
    cell_id: str
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"ue:{self.ue_id}"

    @property
    def lock(self) -> str:
        return self.target


@dataclass(frozen=True)
class SliceIntent:
    """A slice's life (see `slice_life`): `intent` is what enforcement takes."""

    intent: dict[str, Any]
    s_nssai: SNssai
    cells: frozenset[str] | None
    """In question; None: all that the new slice covers."""
    wanted: bool
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"slice:{self.s_nssai}"

    @property
    def lock(self) -> str:
        return "slices"


@dataclass(frozen=True)
class MigrateIntent:
    service: str
    host: str
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"service:{self.service}"

    @property
    def lock(self) -> str:
        return self.target


@dataclass(frozen=True)
class ConfigureTwinIntent:
    overrides: tuple[Override, ...]
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        if len(self.overrides) > 1:
            return "twins of several users"
        return f"twins of {self.overrides[0].scope}"

    @property
    def lock(self) -> str:
        return "twin models"


Intent = (
    ReserveIntent
    | HandoverIntent
    | MigrateIntent
    | SliceIntent
    | ConfigureTwinIntent
    | ScheduleIntent
    | MigrateTwinIntent
    | OffloadIntent
    | AdaptLinkIntent
)


def resolve(request: DecisionRequest, inventory: Inventory) -> Intent:
    """Raises `Malformed` for a wrong shape, `NotFound` for an unknown cell, slice or user."""
    _check_size(request)
    if request.action is Action.HANDOVER:
        return _handover(request, inventory)
    if request.action is Action.ADMIT:
        return _admit(request)
    if request.action is Action.COVER:
        return _cover(request, inventory)
    if request.action is Action.MIGRATE:
        return _migrate(request, inventory)
    if request.action is Action.CONFIGURE_TWIN:
        return _configure_twin(request)
    if request.action is Action.SCHEDULE:
        return schedule(request, inventory)
    if request.action is Action.MIGRATE_TWIN:
        return migrate_twin(request, inventory)
    if request.action is Action.OFFLOAD:
        return offload(request, inventory)
    if request.action is Action.ADAPT_LINK:
        return adapt_link(request, inventory)
    return _reserve(request, inventory)


def _check_size(request: DecisionRequest) -> None:
    if len(request.hops_ns) > HOPS_MAX or len(request.based_on) > BASED_ON_MAX:
        raise Malformed(f"at most {HOPS_MAX} hops and {BASED_ON_MAX} measurement ids")
    if any(len(label) > LABEL_MAX for label in (*request.hops_ns, *request.based_on, request.xapp)):
        raise Malformed(f"names of hops, measurements and xApps: at most {LABEL_MAX} characters")


def _class_of(slice_: Slice, asked: TrafficClass | None, inventory: Inventory) -> TrafficClass:
    """A class without traffic has no queue, so reserving in it could only mislead."""
    classes = {s.traffic_class for s in inventory.services if s.slice_id == slice_.slice_id}
    classes.add(slice_.default_class)
    if asked is not None and asked not in classes:
        known = ", ".join(sorted(c.value for c in classes))
        raise NotFound(f"slice {slice_.s_nssai} has no {asked.value} traffic", f"classes: {known}")
    return asked or slice_.default_class


def _reserve(request: DecisionRequest, inventory: Inventory) -> ReserveIntent:
    target = parse(CellTarget, request.target, "target")
    cell_id = known_cell(target.cell_id, inventory)
    if target.s_nssai is None:
        plan = parse(CellPlan, request.parameters, "parameters")
        wanted = plan.reservations
        parameters = plan.model_dump(mode="json", exclude_none=True)
    else:
        one = parse(OneReservation, request.parameters, "parameters")
        parameters = one.model_dump(mode="json", exclude_none=True)
        if target.traffic_class and one.traffic_class not in (None, target.traffic_class):
            raise Malformed("target and parameters name different traffic classes")
        wanted = [
            ReservationRequest(
                s_nssai=target.s_nssai,
                traffic_class=one.traffic_class or target.traffic_class,
                min_kbps=one.min_kbps,
                max_kbps=one.max_kbps,
                predicted_kbps=one.predicted_kbps,
            )
        ]
    changes: list[Reservation] = []
    predicted: dict[int, float] = {}
    for item in wanted:
        slice_ = known_slice(item.s_nssai, inventory)
        changes.append(
            Reservation(
                slice_id=slice_.slice_id,
                traffic_class=_class_of(slice_, item.traffic_class, inventory),
                min_kbps=round(item.min_kbps),
                max_kbps=round(item.max_kbps),
            )
        )
        if item.predicted_kbps is not None:
            predicted[slice_.slice_id] = item.predicted_kbps
    name = f"cell:{cell_id}"
    if target.s_nssai is not None:
        name += f"/{target.s_nssai}/{changes[0].traffic_class.value}"
    canonical = target.model_dump(mode="json", exclude_none=True)
    return ReserveIntent(cell_id, tuple(changes), predicted, name, (canonical, parameters))


def _configure_twin(request: DecisionRequest) -> ConfigureTwinIntent:
    """Whether the network has such twins is `TwinControl.check`'s question."""
    if {"changes", "layer"} & request.target.keys():
        raise Malformed("target.changes: changes are the parameters", "target: whose twins")
    changes = parse(Changes, request.parameters, "parameters")
    canonical = changes.model_dump(mode="json", exclude_defaults=True)
    said = {"changes": canonical, "layer": next((x for x in Layer if x == request.xapp), None)}
    if "ue_ids" in request.target:
        several = parse(UsersTarget, request.target, "target")
        overrides = [
            parse(Override, {"ue_id": ue_id, **said}, "target") for ue_id in several.ue_ids
        ]
        return ConfigureTwinIntent(tuple(overrides), (several.model_dump(mode="json"), canonical))
    override = parse(Override, {**request.target, **said}, "target")
    target = override.model_dump(mode="json", exclude={"changes", "layer"}, exclude_none=True)
    return ConfigureTwinIntent((override,), (target, canonical))


def _handover(request: DecisionRequest, inventory: Inventory) -> HandoverIntent:
    user = parse(UserTarget, request.target, "target")
    known = [u.ue_id for u in inventory.users]
    if user.ue_id not in known:
        raise NotFound(f"unknown user {user.ue_id!r}", f"{len(known)} users, see /api/v1/ues")
    cell = parse(ServingCell, request.parameters, "parameters")
    cell_id = known_cell(cell.cell_id, inventory)
    return HandoverIntent(user.ue_id, cell_id, (user.model_dump(), cell.model_dump()))


def _admit(request: DecisionRequest) -> SliceIntent:
    """Whether it may be is the guard's question; nothing of it exists yet."""
    target = parse(SliceTarget, request.target, "target")
    asked = {"s_nssai": target.s_nssai.model_dump(), **request.parameters}
    spec = parse(SliceSpec, asked, "parameters")
    if spec.s_nssai != target.s_nssai:
        raise Malformed("target and parameters name different slices")
    parameters = spec.model_dump(mode="json", exclude_unset=True)
    intent = {"kind": "slice.create", "slice": parameters}
    cells = None if spec.cells is None else frozenset(spec.cells)
    return SliceIntent(intent, spec.s_nssai, cells, True, (target.model_dump(), parameters))


def _cover(request: DecisionRequest, inventory: Inventory) -> SliceIntent:
    target = parse(SliceInCell, request.target, "target")
    cell_id = known_cell(target.cell_id, inventory)
    slice_ = known_slice(target.s_nssai, inventory)
    wish = parse(Coverage, request.parameters, "parameters")
    intent: dict[str, Any] = {"slice_id": slice_.slice_id, "cell_id": cell_id}
    if wish.covered:
        intent |= {"kind": "slice.cover", "min_mbps": wish.min_mbps, "max_mbps": wish.max_mbps}
    else:
        intent["kind"] = "slice.uncover"
    canonical = (target.model_dump(), wish.model_dump(exclude_none=True))
    return SliceIntent(intent, target.s_nssai, frozenset({cell_id}), wish.covered, canonical)


def _migrate(request: DecisionRequest, inventory: Inventory) -> MigrateIntent:
    target = parse(ServiceTarget, request.target, "target")
    tasks = {s.name: s for s in task_services(inventory)}
    service = tasks.get(target.service)
    if service is None:
        known = ", ".join(tasks) or "none in this scenario"
        raise NotFound(f"unknown task service {target.service!r}", f"task services: {known}")
    wanted = parse(ServingHost, request.parameters, "parameters")
    candidates = list(dict.fromkeys([service.host, *service.candidates]))
    if wanted.host not in candidates:
        raise NotFound(
            f"service {service.name} cannot run in {wanted.host!r}",
            f"its candidates: {', '.join(candidates)}",
        )
    return MigrateIntent(service.name, wanted.host, (target.model_dump(), wanted.model_dump()))
