"""How the API answers: JSON by orjson, and every error as {error, hint}."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from controller.ric.errors import RicError

BODY_BYTES_MAX = 1024 * 1024

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Not a number in `content` becomes null: JSON has no NaN."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def printable(text: str) -> str:
    """Lone surrogates, which JSON input may carry, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def error_response(status: int, message: str, hint: str = "", **more: object) -> Response:
    content = {"error": printable(message), "hint": printable(hint), **more}
    headers = {"www-authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return json_response(content, status, headers)


def validation_message(error: RequestValidationError) -> str:
    """'body.min_kbps: Input should be a valid number', without the input itself."""
    faults = error.errors()
    path = ".".join(str(part) for part in faults[0]["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{path}: {faults[0]['msg']}{more}"


def add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RicError)
    async def refused(_: Request, error: RicError) -> Response:
        return error_response(error.status, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return error_response(422, validation_message(error), "shapes: /openapi.json")

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        # Unreadable JSON arrives here as 400; to the caller it is one more malformed body.
        status = 422 if error.status_code == HTTPStatus.BAD_REQUEST else error.status_code
        where = f"{request.method} {request.url.path}"
        return error_response(status, f"{where}: {error.detail}", "paths: /openapi.json")


class BodyLimit:
    """Refuses larger bodies before anything reads them."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE"):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            message = f"the body is larger than {BODY_BYTES_MAX} bytes"
            await error_response(422, message)(scope, receive, send)
            return
        whole: MutableMapping[str, Any] = {"type": "http.request", "body": body}
        waiting = [whole]

        async def replay() -> MutableMapping[str, Any]:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large."""
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > BODY_BYTES_MAX:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
