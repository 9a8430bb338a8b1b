"""Routes of history: one attribute over time, filtered and aggregated; rows for export.

Users' histories are asked for at the edge that keeps them, slices' and cells' are here.  A
token gets its slices' attributes only; what it asks for by name and may not read is refused
and audited, rows of other slices are left out.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any, Literal

import fastapi
from fastapi import APIRouter, Depends, Response

from controller.ric.callers import Caller
from controller.ric.documents import PointDocument
from controller.ric.errors import Malformed, NotFound
from controller.ric.gate import Reader, TheRic
from controller.ric.responses import json_response
from controller.ric.routes_twins import Kind, existing_twin, placebo_for
from controller.ric.state import Ric
from controller.twins.series import (
    POINTS_MAX,
    Query,
    Sample,
    SeriesError,
    answer,
    duration_ns,
    moment_ns,
)

router = APIRouter(tags=["history"])

Last = Annotated[int, fastapi.Query(ge=1, le=POINTS_MAX)]
Table = Literal["users", "slices"]
ROWS_MAX = 200_000


async def span(
    since: str | None = None,
    until: str | None = None,
    aggregate: str | None = None,
    every: str | None = None,
    last: Last = 60,
) -> Query:
    """`since`, `until`: `10s` ago or nanoseconds since 1970; `every`: `1s`; `last`: newest points.

    `aggregate`: mean, min, max, sum, count, last, p50, p95 or p99 of each step of `every`,
    or of the whole span.
    """
    now_ns = time.time_ns()
    try:
        return Query(
            attribute="",
            since_ns=None if since is None else moment_ns(since, now_ns),
            until_ns=None if until is None else moment_ns(until, now_ns),
            aggregate=aggregate,
            every_ns=None if every is None else duration_ns(every),
            last=last,
        )
    except SeriesError as error:
        raise Malformed(str(error)) from None


Span = Annotated[Query, Depends(span)]


def about(attribute: str, asked: Query) -> Query:
    return Query(**{**asdict(asked), "attribute": attribute})


@router.get("/twins/users/{ue_id}/history")
async def show_user_history(
    ric: TheRic, caller: Reader, ue_id: str, asked: Span, attribute: str | None = None
) -> Response:
    """Without `attribute`: reports merged into the twin, oldest first.  With a twin's attribute
    (`services.stream.down.demand_kbps`): its points.  A report's own field: that one of each."""
    ric.access.require_user(caller, ue_id)
    attachments = ric.enforcer.attachments()
    if attribute is not None and "." in attribute:
        ric.access.require_user_attribute(caller, ue_id, attribute)
        return json_response(
            await ric.user_twins.series(ue_id, about(attribute, asked), attachments)
        )
    whole = await ric.user_twins.history(ue_id, asked.last, attachments)
    reports = [ric.access.report(caller, ue_id, report) for report in whole]
    if attribute is None:
        return json_response(reports)
    if any(attribute in r for r in whole) and not any(attribute in r for r in reports):
        raise ric.access.deny(caller, f"{attribute} of {ue_id}")
    if reports and not any(attribute in r for r in reports):
        known = ", ".join(sorted(reports[0]))
        raise NotFound(f"no attribute {attribute!r} in reports of {ue_id}", f"attributes: {known}")
    samples = [
        Sample(r["window"], r["measured_at_ns"], r[attribute]) for r in reports if attribute in r
    ]
    return json_response(answered(samples, about(attribute, asked)))


@router.get("/twins/{kind}/{twin_id}/history", response_model=list[PointDocument])
async def show_centre_history(
    ric: TheRic, caller: Reader, kind: Kind, twin_id: str, attribute: str, asked: Span
) -> Response:
    twin = existing_twin(ric, kind, twin_id)
    if kind == "slices":
        ric.access.require_slice_attribute(caller, twin_id, attribute)
    else:
        ric.access.require_cell_attribute(caller, attribute)
    points = ric.centre.history.last(twin.kind, twin_id, attribute, POINTS_MAX)
    if not points:
        known = ", ".join(ric.centre.history.attributes(twin.kind, twin_id)) or "none yet"
        raise NotFound(f"no history of {attribute!r} of {twin_id}", f"attributes: {known}")
    samples = [Sample(*point) for point in points]
    placebo = placebo_for(ric, caller)
    if placebo is not None:
        shuffled = placebo.series([s._asdict() for s in samples])
        samples = [Sample(**point) for point in shuffled]
    return json_response(answered(samples, about(attribute, asked)))


@router.get("/twins/rows/{table}")
async def export_rows(
    ric: TheRic, caller: Reader, table: Table, since: str | None = None
) -> Response:
    """Rows of the tables `user_twins` (a user, slice and report) and `twins` (a slice, cell and
    window), oldest first: what `./testbed.sh twin export` writes."""
    if placebo_for(ric, caller) is not None:
        raise ric.access.deny(caller, "rows of twins")  # an export is no xApp's input
    try:
        since_ns = 0 if since is None else moment_ns(since, time.time_ns())
    except SeriesError as error:
        raise Malformed(str(error)) from None
    if table == "users":
        rows = await user_rows(ric, caller, since_ns)
    else:
        rows = slice_rows(ric, caller, since_ns)
    own = [r for r in rows if ric.access.may_read_slice(caller, f"{r['sst']}-{r['sd']}")]
    return json_response(own[-ROWS_MAX:])


async def user_rows(ric: Ric, caller: Caller, since_ns: int) -> list[dict[str, Any]]:
    """Of every user the caller may read; right after a handover two edges have the same rows."""
    attachments = ric.enforcer.attachments()
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for user in ric.inventory.users:
        if ric.access.may_read_user(caller, user.ue_id):
            for row in await ric.user_twins.rows(user.ue_id, since_ns, attachments):
                shown = ric.access.user_row(caller, row)
                found[row["ue_id"], row["version"], row["sst"], row["sd"]] = shown
    return sorted(found.values(), key=lambda row: (row["measured_at_ns"], row["ue_id"]))


def slice_rows(ric: Ric, caller: Caller, since_ns: int) -> list[dict[str, Any]]:
    rows = ric.centre.table.rows()
    return [ric.access.slice_row(caller, r) for r in rows if r["received_at_ns"] >= since_ns]


def answered(samples: list[Sample], query: Query) -> list[dict[str, Any]]:
    try:
        return answer(samples, query)
    except SeriesError as error:
        raise Malformed(str(error)) from None
