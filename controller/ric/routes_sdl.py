"""Routes of the shared data layer: SDL's operations, by token, for xApps in any language.

`POST /sdl/<operation>` with the operation's arguments; values and members are base64.  An xApp
(scope `store`) has namespaces of its own; only the operator sees the RIC's and others'.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Base64Bytes, Field

from controller.contracts.slices import Strict
from controller.ric.callers import Caller
from controller.ric.errors import Malformed, NotFound, Unreachable
from controller.ric.gate import AnyCaller, TheRic
from controller.ric.responses import json_response
from controller.ric.shared_data import own_namespace
from controller.store.errors import RejectedByBackend, SdlException
from controller.store.sdl import Sdl

router = APIRouter(tags=["shared data layer"])

KEEP_ALIVE_S = 1.0
"""An empty line so often: a listener that no longer wants to hear notices then."""

Text = Annotated[str, Field(min_length=1, max_length=256)]


class SdlRequest(Strict):
    """Arguments of all operations; each takes those of its namesake in SDL.

    `events`: channel -> events, published if and only if the change is made.
    """

    ns: Text
    keys: Annotated[list[Text], Field(max_length=1000)] = []
    values: Annotated[dict[Text, Base64Bytes], Field(max_length=1000)] = {}
    key: Text | None = None
    old: Base64Bytes | None = None
    new: Base64Bytes | None = None
    pattern: Text = "*"
    group: Text | None = None
    members: Annotated[list[Base64Bytes], Field(max_length=1000)] = []
    events: Annotated[dict[Text, list[Text]], Field(max_length=100)] = {}


def needed(name: str, value: Any) -> Any:
    if value is None:
        raise Malformed(f"{name} is missing", "see /docs for what each operation takes")
    return value


Operation = Callable[[Sdl, str, SdlRequest], Any]
OPERATIONS: Mapping[str, Operation] = {
    "set": lambda s, ns, r: s.set_and_publish(ns, r.events, r.values),
    "set_if": lambda s, ns, r: s.set_if_and_publish(
        ns, r.events, needed("key", r.key), needed("old", r.old), needed("new", r.new)
    ),
    "set_if_not_exists": lambda s, ns, r: s.set_if_not_exists_and_publish(
        ns, r.events, needed("key", r.key), needed("new", r.new)
    ),
    "get": lambda s, ns, r: s.get(ns, r.keys),
    "find_keys": lambda s, ns, r: s.find_keys(ns, r.pattern),
    "find_and_get": lambda s, ns, r: s.find_and_get(ns, r.pattern),
    "remove": lambda s, ns, r: s.remove_and_publish(ns, r.events, r.keys),
    "remove_if": lambda s, ns, r: s.remove_if_and_publish(
        ns, r.events, needed("key", r.key), needed("old", r.old)
    ),
    "remove_all": lambda s, ns, r: s.remove_all_and_publish(ns, r.events),
    "add_member": lambda s, ns, r: s.add_member(ns, needed("group", r.group), r.members),
    "remove_member": lambda s, ns, r: s.remove_member(ns, needed("group", r.group), r.members),
    "remove_group": lambda s, ns, r: s.remove_group(ns, needed("group", r.group)),
    "get_members": lambda s, ns, r: sorted(s.get_members(ns, needed("group", r.group))),
}
GROWING = ("set", "set_if_not_exists", "add_member")


async def storing(ric: TheRic, caller: AnyCaller) -> Caller:
    """Raises `Forbidden` without the scope `store`; the audit has it."""
    if "store" not in caller.scopes:
        raise ric.access.deny(caller, "the shared data layer: it has no scope 'store'")
    return caller


Storing = Annotated[Caller, Depends(storing)]


def as_json(result: Any) -> Any:
    """Bytes as base64."""
    if isinstance(result, bytes):
        return base64.b64encode(result).decode()
    if isinstance(result, dict):
        return {key: as_json(value) for key, value in result.items()}
    return [as_json(item) for item in result] if isinstance(result, list) else result


# Not async: a store may be across a network, so each call gets a thread.
@router.post("/sdl/{operation}")
def operate(ric: TheRic, caller: Storing, operation: str, request: SdlRequest) -> Response:
    """`{"result": ...}`: what the operation of that name returns in SDL."""
    if operation not in OPERATIONS:
        raise NotFound(f"no operation {operation!r}", f"operations: {', '.join(OPERATIONS)}")
    ns = own_namespace(caller, request.ns)
    try:
        if operation in GROWING:
            added = [*request.values, *filter(None, (request.key, request.group))]
            ric.shared.reserve_room(caller, ns, added)
        result = OPERATIONS[operation](ric.shared.store, ns, request)
    except RejectedByBackend as error:
        raise Malformed(f"the store refused: {error}") from None
    except SdlException as error:
        raise Unreachable(f"the store does not answer: {error}") from None
    return json_response({"result": as_json(result)})


@router.get("/sdl/events")
async def events(
    ric: TheRic,
    caller: Storing,
    ns: Annotated[str, Query(min_length=1, max_length=256)],
    channel: Annotated[list[str], Query(min_length=1, max_length=32)],
) -> StreamingResponse:
    """NDJSON `{"channel", "events"}` of these channels, from now on; empty lines keep it open."""
    place = own_namespace(caller, ns)
    try:
        waiting = await ric.channels.subscribe(place, channel)
    except SdlException as error:
        raise Unreachable(f"the store does not answer: {error}") from None

    async def lines() -> AsyncIterator[bytes]:
        yield b"\n"  # subscribed: whoever waits for this loses no event
        try:
            while True:
                try:
                    heard = await asyncio.wait_for(waiting.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield b"\n"
                    continue
                if heard is None:
                    return
                yield orjson.dumps({"channel": heard[0], "events": heard[1]}) + b"\n"
        finally:
            await ric.channels.unsubscribe(place, channel, waiting)

    return StreamingResponse(lines(), media_type="application/x-ndjson")
