"""The gate of the API: which caller a request comes from, and the RIC it is for."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from controller.ric.callers import Caller
from controller.ric.state import Ric

_bearer = HTTPBearer(auto_error=False, description="The operator's or an xApp's token")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def the_ric(request: Request) -> Ric:
    return cast(Ric, request.app.state.ric)


TheRic = Annotated[Ric, Depends(the_ric)]


async def authenticated(ric: TheRic, credentials: Credentials) -> Caller:
    """Raises `Unauthenticated`."""
    if credentials is None:
        return ric.tokens.caller(None)
    return ric.tokens.caller(f"{credentials.scheme} {credentials.credentials}")


AnyCaller = Annotated[Caller, Depends(authenticated)]


async def reading(ric: TheRic, caller: AnyCaller, request: Request) -> Caller:
    """Raises `Forbidden` without the scope `read`; the audit has it."""
    if "read" not in caller.scopes:
        ric.audit.note("read denied", caller.name, what=request.url.path, slices=[])
        ric.access.denied += 1
    caller.require("read")
    return caller


Reader = Annotated[Caller, Depends(reading)]


async def reading_all(ric: TheRic, request: Request, caller: Reader) -> Caller:
    """Raises `Forbidden` for a token with some slices only: what is shown is about all."""
    ric.access.require_all(caller, request.url.path)
    return caller


async def operating(caller: AnyCaller) -> Caller:
    """Raises `Forbidden` for an xApp."""
    caller.require_operator()
    return caller


WholeReader = Annotated[Caller, Depends(reading_all)]
Operator = Annotated[Caller, Depends(operating)]
