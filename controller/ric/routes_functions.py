"""Routes of network functions: list, place or move, remove."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from controller.contracts.rpc import RpcError
from controller.contracts.slices import Strict
from controller.errors import EnforcementError, UnknownTargetError
from controller.outcome import EnforcementResult
from controller.ric.errors import Conflict, NotFound, RicError, Unreachable
from controller.ric.gate import Operator, Reader, TheRic
from controller.ric.responses import json_response

router = APIRouter(tags=["functions"])
DryRun = Annotated[bool, Query(description="Only say which rules would change")]


class FunctionRequest(Strict):
    """A firewall for what users send to `service`; `deny`: users whose packets it drops."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
    service: str
    host: str
    deny: list[str] = []
    dry_run: bool = False


def _refusal(error: Exception) -> RicError:
    if isinstance(error, UnknownTargetError):
        return NotFound(str(error))
    if isinstance(error, RpcError):
        return Unreachable(str(error))
    return Conflict(str(error))


def _answer(result: EnforcementResult) -> Response:
    confirmations = [c.model_dump() for c in result.confirmations]
    return json_response({"confirmations": confirmations, "diff": result.diff})


@router.get("/functions")
async def list_functions(ric: TheRic, _: Reader) -> Response:
    try:
        return json_response(await ric.enforcer.functions.documents())
    except RpcError as error:
        raise _refusal(error) from error


@router.post("/functions")
async def place_function(ric: TheRic, caller: Operator, wanted: FunctionRequest) -> Response:
    """Of a name that exists: moved, without a packet past it."""
    try:
        result = await ric.enforcer.functions.place(
            wanted.name, wanted.service, wanted.host, wanted.deny, wanted.dry_run
        )
    except (EnforcementError, RpcError) as error:
        raise _refusal(error) from error
    if not wanted.dry_run:
        ric.audit.note("function_placed", "operator", function=wanted.model_dump())
    return _answer(result)


@router.delete("/functions/{name}")
async def remove_function(
    ric: TheRic, caller: Operator, name: str, dry_run: DryRun = False
) -> Response:
    try:
        result = await ric.enforcer.functions.remove(name, dry_run)
    except (EnforcementError, RpcError) as error:
        raise _refusal(error) from error
    if not dry_run:
        ric.audit.note("function_removed", "operator", function=name)
    return _answer(result)
