"""Routes of twins: current values, history, and the stream.

Slice and cell twins are here at the centre; user twins are read from the local
controller that keeps them.  Under policy `placebo` xApps see shuffled values.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from controller.ric.callers import Caller
from controller.ric.documents import TwinDocument, TwinSummary
from controller.ric.errors import Conflict, Malformed, NotFound
from controller.ric.gate import Reader, TheRic
from controller.ric.placebo import Placebo
from controller.ric.responses import json_response
from controller.ric.slice_strategies import uav_attributes
from controller.ric.state import Ric
from controller.ric.stream import Event, Filter, Rewrite, Subscription, encode
from controller.ric.user_facts import profile, resources
from controller.twins.twin import Twin, twin_document, twin_summary

router = APIRouter(tags=["twins"])

Kind = Literal["slices", "cells"]


def placebo_for(ric: Ric, caller: Caller) -> Placebo | None:
    """What shuffles this caller's twin data; None: it sees them as they are."""
    return None if caller.is_operator else ric.placebo


def rewrite(ric: Ric, caller: Caller) -> Rewrite | None:
    """What turns an event into what this caller may see of it."""
    placebo = placebo_for(ric, caller)
    if caller.is_operator:
        return None

    def allowed(event: Event) -> Event | None:
        shown = placebo.event(event) if placebo else event
        return ric.access.event(caller, shown)

    return allowed


def of_own_policies(ric: Ric, caller: Caller) -> Rewrite | None:
    """An xApp is told of the types of policies that its descriptor names; `NotFound` for
    tokens of no xApp."""
    if caller.is_operator:
        return None
    own = ric.xapps.get(caller.name).program.descriptor.policies
    return lambda event: event if event["policy_type_id"] in own else None


def centre_twins(ric: Ric, kind: Kind) -> Mapping[str, Twin]:
    level_two = ric.centre.level_two
    return level_two.slices if kind == "slices" else level_two.cells


def existing_twin(ric: Ric, kind: Kind, twin_id: str) -> Twin:
    twins = centre_twins(ric, kind)
    if twin_id not in twins:
        raise NotFound(f"no twin {twin_id!r} of {kind}", f"{kind}: {', '.join(sorted(twins))}")
    return twins[twin_id]


def composed(ric: Ric, s_nssai: str) -> dict[str, Any]:
    """Attributes of a slice's twin that nobody measures: the strategy in use, planned places."""
    slice_id, now_ns = ric.slices.slice_id(s_nssai), time.time_ns()
    started_at_ns = ric.progress.started_at_ns
    return {
        **ric.strategies.attributes(slice_id, ric.xapps.documents(), started_at_ns, now_ns),
        **uav_attributes(ric.inventory, slice_id, started_at_ns, now_ns),
    }


def with_facts(ric: Ric, document: dict[str, Any]) -> dict[str, Any]:
    """A user's twin with what the network knows of the user."""
    inventory, attachments = ric.inventory, ric.enforcer.attachments()
    user, now_ns = inventory.user(document["id"]), time.time_ns()
    cell = ric.centre.level_two.cells[attachments[user.ue_id]]
    started_at_ns = ric.progress.started_at_ns
    return {
        **document,
        "user": document.get("user", {}) | profile(user, inventory, started_at_ns, now_ns),
        "resources": resources(user, inventory, attachments, cell, started_at_ns, now_ns),
    }


async def user_summaries(ric: Ric, response_headers: dict[str, str]) -> list[dict[str, Any]]:
    """An edge that does not answer is named in a header; the other edges' twins are listed."""
    summaries, silent = await ric.user_twins.summaries()
    if silent:
        response_headers["x-holon-unreachable"] = ",".join(silent)
    return summaries


def centre_summaries(ric: Ric, kind: Kind) -> list[dict[str, Any]]:
    now_ns = time.time_ns()
    return [twin_summary(twin, now_ns) for _, twin in sorted(centre_twins(ric, kind).items())]


@router.get("/twins", response_model=list[TwinSummary])
async def list_twins(ric: TheRic, caller: Reader) -> Response:
    headers: dict[str, str] = {}
    users = await user_summaries(ric, headers)
    twins = [*users, *centre_summaries(ric, "slices"), *centre_summaries(ric, "cells")]
    return json_response(ric.access.summaries(caller, twins), headers=headers)


@router.get("/twins/users", response_model=list[TwinSummary])
async def list_user_twins(ric: TheRic, caller: Reader) -> Response:
    headers: dict[str, str] = {}
    twins = ric.access.summaries(caller, await user_summaries(ric, headers))
    return json_response(twins, headers=headers)


@router.get("/twins/users/{ue_id}")
async def show_user_twin(ric: TheRic, caller: Reader, ue_id: str) -> Response:
    """Attributes nested by group and service, each with its unit, age and source."""
    ric.access.require_user(caller, ue_id)
    document = await ric.user_twins.twin(ue_id, ric.enforcer.attachments())
    document = ric.with_strategy(ue_id, document)
    return json_response(ric.access.user_twin(caller, with_facts(ric, document)))


@router.get("/twins/{kind}", response_model=list[TwinSummary])
async def list_centre_twins(ric: TheRic, caller: Reader, kind: Kind) -> Response:
    return json_response(ric.access.summaries(caller, centre_summaries(ric, kind)))


@router.get("/twins/{kind}/{twin_id}", response_model=TwinDocument)
async def show_centre_twin(ric: TheRic, caller: Reader, kind: Kind, twin_id: str) -> Response:
    document = twin_document(existing_twin(ric, kind, twin_id), time.time_ns())
    if kind == "slices":
        ric.access.require_slice(caller, twin_id)
        document["attributes"] |= composed(ric, twin_id)
        document = ric.access.slice_twin(caller, document)
    else:
        document = ric.access.cell_twin(caller, document)
    placebo = placebo_for(ric, caller)
    return json_response(placebo.twin(document) if placebo else document)


@router.get("/stream")
async def stream(
    ric: TheRic,
    caller: Reader,
    kind: Literal["cell", "slice", "user", "decision", "policy"] = "cell",
    id: str | None = None,
    period_ms: Annotated[int, Query(ge=0, le=3_600_000)] = 0,
) -> StreamingResponse:
    """NDJSON, one event per line, until either side closes.

    `period_ms`: at most one event per twin and period.  A consumer that does not
    keep up loses its oldest events (`holon_stream_dropped_total`).
    """
    if id is not None and kind == "user":
        if id not in {u.ue_id for u in ric.inventory.users}:
            raise NotFound(f"unknown user {id!r}", "see /api/v1/ues")
        ric.access.require_user(caller, id)
    if id is not None and kind in ("cell", "slice"):
        existing_twin(ric, "cells" if kind == "cell" else "slices", id)
    if id is not None and kind == "decision":
        raise Malformed("decisions cannot be filtered by id", "read /api/v1/decisions/{id}")
    if kind == "slice" and id is not None:
        ric.access.require_slice(caller, id)
    if kind == "decision":
        ric.access.require_all(caller, "the stream of decisions")
    rewriting = of_own_policies(ric, caller) if kind == "policy" else rewrite(ric, caller)
    subscription = Subscription(caller.name, Filter(kind, id, period_ms), rewriting)
    try:
        ric.centre.stream.subscribe(subscription)
    except ValueError as error:
        raise Conflict(str(error), "close one first") from None
    if kind == "policy":
        for event in ric.policies.standing():
            subscription.offer(event, encode(event), time.time_ns())
    if ric.xapps.is_deployed(caller.name):
        ric.xapps.mark_ready(caller.name)

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for line in subscription.lines():
                yield line
        finally:
            ric.centre.stream.unsubscribe(subscription)

    return StreamingResponse(lines(), media_type="application/x-ndjson")
