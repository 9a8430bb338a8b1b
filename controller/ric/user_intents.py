"""Decisions about single users: their shares in a slice, where their twins go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from controller.contracts.decisions import DecisionRequest
from controller.contracts.inventory import Inventory
from controller.contracts.slices import SNssai, Strict
from controller.ric.errors import NotFound
from controller.ric.intent_parsing import known_slice, known_user, parse

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
SHARES_MAX = 4096


class SliceOfUsers(Strict):
    s_nssai: SNssai


class Shares(Strict):
    shares: Annotated[dict[str, Share], Field(max_length=SHARES_MAX)]


class OfUser(Strict):
    ue_id: str


class NextEdge(Strict):
    edge: str


class TasksOfUser(Strict):
    ue_id: str
    service: str


class PlaceOfWork(Strict):
    to: str


class Scheme(Strict):
    max_cqi: Annotated[int, Field(ge=1, le=15)] | None


@dataclass(frozen=True)
class ScheduleIntent:
    slice_id: int
    shares: Mapping[str, float]
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"users of slice {self.slice_id}"

    @property
    def lock(self) -> str:
        return self.target


@dataclass(frozen=True)
class MigrateTwinIntent:
    ue_id: str
    edge: str
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"twin of {self.ue_id}"

    @property
    def lock(self) -> str:
        return self.target


@dataclass(frozen=True)
class OffloadIntent:
    ue_id: str
    service: str
    to: str
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"tasks of {self.ue_id} for {self.service}"

    @property
    def lock(self) -> str:
        return self.target


@dataclass(frozen=True)
class AdaptLinkIntent:
    ue_id: str
    max_cqi: int | None
    document: tuple[dict[str, Any], dict[str, Any]]

    @property
    def target(self) -> str:
        return f"link of {self.ue_id}"

    @property
    def lock(self) -> str:
        return self.target


UserIntent = ScheduleIntent | MigrateTwinIntent | OffloadIntent | AdaptLinkIntent


def schedule(request: DecisionRequest, inventory: Inventory) -> ScheduleIntent:
    target = parse(SliceOfUsers, request.target, "target")
    slice_ = known_slice(target.s_nssai, inventory)
    wanted = parse(Shares, request.parameters, "parameters")
    for ue_id in wanted.shares:
        sessions = known_user(ue_id, inventory).sessions
        if slice_.slice_id not in {s.slice_id for s in sessions}:
            members = ", ".join(
                u.ue_id
                for u in inventory.users
                if slice_.slice_id in {s.slice_id for s in u.sessions}
            )
            raise NotFound(f"{ue_id} has no session in slice {slice_.name}", f"users: {members}")
    canonical = (target.model_dump(mode="json"), wanted.model_dump(mode="json"))
    return ScheduleIntent(slice_.slice_id, wanted.shares, canonical)


def migrate_twin(request: DecisionRequest, inventory: Inventory) -> MigrateTwinIntent:
    target = parse(OfUser, request.target, "target")
    known_user(target.ue_id, inventory)
    wanted = parse(NextEdge, request.parameters, "parameters")
    edges = sorted({cell.edge for cell in inventory.cells})
    if wanted.edge not in edges:
        raise NotFound(f"no twins are kept at {wanted.edge!r}", f"edges: {', '.join(edges)}")
    canonical = (target.model_dump(), wanted.model_dump())
    return MigrateTwinIntent(target.ue_id, wanted.edge, canonical)


def offload(request: DecisionRequest, inventory: Inventory) -> OffloadIntent:
    target = parse(TasksOfUser, request.target, "target")
    known_user(target.ue_id, inventory)
    asked = {s.name: s for s in inventory.services if target.ue_id in s.users}
    if target.service not in asked:
        known = ", ".join(asked) or "none"
        raise NotFound(f"{target.ue_id} asks no service {target.service!r}", f"it asks: {known}")
    wanted = parse(PlaceOfWork, request.parameters, "parameters")
    places = asked[target.service].places
    if wanted.to not in places:
        raise NotFound(
            f"the work of {target.service} cannot be done at {wanted.to!r}",
            f"places: {', '.join(places)}",
        )
    canonical = (target.model_dump(), wanted.model_dump())
    return OffloadIntent(target.ue_id, target.service, wanted.to, canonical)


def adapt_link(request: DecisionRequest, inventory: Inventory) -> AdaptLinkIntent:
    target = parse(OfUser, request.target, "target")
    known_user(target.ue_id, inventory)
    wanted = parse(Scheme, request.parameters, "parameters")
    canonical = (target.model_dump(), wanted.model_dump())
    return AdaptLinkIntent(target.ue_id, wanted.max_cqi, canonical)
