"""Routes that act: decisions, and the life cycle of xApps."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from controller.contracts.decisions import (
    Action,
    DecisionRecord,
    DecisionRequest,
    Effect,
    Verdict,
)
from controller.ric.documents import (
    LogDocument,
    TokenDocument,
    TokenRequest,
    XappDeployment,
    XappDocument,
    XappUpgrade,
)
from controller.ric.errors import Conflict, Forbidden, Malformed, NotFound
from controller.ric.gate import AnyCaller, Operator, Reader, TheRic
from controller.ric.responses import error_response, json_response
from controller.ric.xapp_program import Deployment

decisions = APIRouter(tags=["decisions"])
xapps = APIRouter(tags=["xapps"])
tokens = APIRouter(tags=["tokens"])


@decisions.post("/decisions", response_model=DecisionRecord)
async def decide(ric: TheRic, caller: AnyCaller, request: DecisionRequest) -> Response:
    """The verdict is in the record; 429 with the record when the xApp decides too often.

    The effect is judged later, from measured packets: read it under the decision's id.
    """
    caller.require_action(request.action, request.xapp)
    if not ric.progress.ready:
        raise Conflict("slices are not installed yet", "wait until /api/v1/health says ready")
    decided = await ric.pipeline.decide(request)
    document = decided.record.model_dump(mode="json")
    if decided.rule == "xapp_rate":
        hint = "decide less often, or plan a whole cell in one decision"
        return error_response(429, decided.record.reason, hint, decision=document)
    return json_response(document)


@decisions.get("/decisions", response_model=list[DecisionRecord])
async def list_decisions(
    ric: TheRic,
    caller: Reader,
    last: Annotated[int, Query(ge=1, le=20_000)] = 100,
    xapp: str | None = None,
    action: Action | None = None,
    verdict: Verdict | None = None,
    effect: Effect | None = None,
) -> Response:
    """The newest, oldest of them first; with a token for some slices only the caller's own."""
    wanted = {"xapp": xapp, "action": action, "verdict": verdict, "effect": effect}
    filters = {name: value for name, value in wanted.items() if value is not None}
    found = [
        record
        for record in ric.decisions.newest(20_000)
        if all(getattr(record, name) == value for name, value in filters.items())
        and (caller.slices is None or record.xapp == caller.name)
    ]
    return json_response([record.model_dump(mode="json") for record in found[-last:]])


@decisions.get("/decisions/{decision_id}", response_model=DecisionRecord)
async def show_decision(ric: TheRic, caller: Reader, decision_id: str) -> Response:
    record = ric.decisions.get(decision_id)
    if record is not None and record.xapp != caller.name:
        ric.access.require_all(caller, f"decision {decision_id}")
    if record is None:
        raise NotFound(f"unknown decision {decision_id!r}", "see /api/v1/decisions")
    return json_response(record.model_dump(mode="json"))


@tokens.post("/tokens", response_model=TokenDocument, status_code=201)
async def issue_token(ric: TheRic, _: Operator, request: TokenRequest) -> Response:
    """A token that only reads, and only twin data of these slices; it ends with the RIC."""
    known = {str(s.s_nssai) for s in ric.inventory.slices}
    for s_nssai in request.slices:
        if s_nssai not in known:
            raise NotFound(f"unknown slice {s_nssai!r}", f"slices: {', '.join(sorted(known))}")
    if any(x["xapp_name"] == request.name for x in ric.xapps.documents()):
        raise Conflict(f"{request.name} is an xApp's name", "choose another")
    token = ric.tokens.issue(request.name, frozenset({"read"}), frozenset(request.slices))
    ric.audit.note("token issued", request.name, slices=request.slices)
    return json_response({"name": request.name, "slices": request.slices, "token": token}, 201)


@xapps.get("/xapps", response_model=list[XappDocument])
async def list_xapps(ric: TheRic, _: Reader) -> Response:
    return json_response(ric.xapps.documents())


@xapps.post("/xapps", response_model=XappDocument, status_code=201)
async def deploy_xapp(ric: TheRic, _: Operator, request: XappDeployment) -> Response:
    """Answers once the xApp runs, or says in one line why it does not."""
    require_json(request.config)
    deployment = Deployment(request.descriptor_dir, request.placement, request.config, request.name)
    xapp = await ric.xapps.deploy(deployment)
    return json_response(xapp.document(), 201)


@xapps.get("/xapps/{name}", response_model=XappDocument)
async def show_xapp(ric: TheRic, _: Reader, name: str) -> Response:
    return json_response(ric.xapps.get(name).document())


@xapps.delete("/xapps/{name}", response_model=XappDocument)
async def undeploy_xapp(ric: TheRic, _: Operator, name: str) -> Response:
    """Its reservations stay as they are until somebody decides otherwise."""
    xapp = await ric.versions.undeploy(name)
    return json_response(xapp.document())


@xapps.post("/xapps/{name}/upgrade", response_model=XappDocument)
async def upgrade_xapp(ric: TheRic, _: Operator, name: str, request: XappUpgrade) -> Response:
    """Another version takes its place; when that does not start, the one before runs again."""
    require_json(request.config)
    xapp = await ric.versions.upgrade(name, request.descriptor_dir, request.config)
    return json_response(xapp.document())


@xapps.post("/xapps/{name}/rollback", response_model=XappDocument)
async def roll_back_xapp(ric: TheRic, _: Operator, name: str) -> Response:
    """The version before takes its place again."""
    xapp = await ric.versions.rollback(name)
    return json_response(xapp.document())


def require_json(config: dict[str, Any] | None) -> None:
    try:
        orjson.dumps(config)
    except TypeError as error:  # integers beyond 64 bits, lone surrogates
        raise Malformed(f"config: {error}") from None


@xapps.post("/xapps/{name}/ready", response_model=XappDocument)
async def report_ready(ric: TheRic, caller: AnyCaller, name: str) -> Response:
    """Called by the xApp itself, once it works."""
    if not caller.is_operator and caller.name != name:
        raise Forbidden(f"xApp {caller.name} may not speak for {name!r}")
    ric.xapps.mark_ready(name)
    return json_response(ric.xapps.get(name).document())


@xapps.get("/xapps/{name}/logs", response_model=LogDocument)
async def show_logs(
    ric: TheRic, caller: Reader, name: str, lines: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> Response:
    if caller.name != name:
        ric.access.require_all(caller, f"the log of {name}")
    return json_response({"xapp_name": name, "lines": ric.xapps.log_lines(name, lines)})
