"""JSON lines over a Unix socket: how processes of the testbed call each other.

Unix sockets cross network namespaces, so no management network is needed.
Request `{"op": str, ...arguments}`, answer `{"ok": true, "result": ...}` or
`{"ok": false, "error": str}`; one connection may carry many requests in order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from controller.contracts.rpc_client import Connection as Connection
from controller.contracts.rpc_client import RpcError as RpcError
from controller.contracts.rpc_client import RpcUnavailable as RpcUnavailable
from controller.contracts.rpc_client import answer_of
from controller.contracts.rpc_client import call as call

MAX_LINE_BYTES = 64 * 1024 * 1024

Handler = Callable[..., Any | Awaitable[Any]]


class AsyncConnection:
    """An asyncio client; calls are answered in order, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, op: str, timeout_s: float = 10.0, **arguments: Any) -> Any:
        async with self._lock:
            try:
                return await asyncio.wait_for(self._exchange(op, arguments), timeout_s)
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self.close()
                raise RpcUnavailable(f"{self._path}: {op}: {error!r}") from error
            except asyncio.CancelledError:
                self.close()  # or the next call would read the answer of this one
                raise

    async def _exchange(self, op: str, arguments: dict[str, Any]) -> Any:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(
                str(self._path), limit=MAX_LINE_BYTES
            )
        reader, writer = self._streams
        writer.write(orjson.dumps({"op": op, **arguments}) + b"\n")
        await writer.drain()
        return answer_of(await reader.readuntil(b"\n"))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def serve(path: Path, handlers: Mapping[str, Handler]) -> asyncio.Server:
    """Listen at `path`; each op's handler gets the arguments as keywords.

    A handler's exception becomes an error answer, an `RpcError` in its own words; the
    connection lives on.
    """

    async def answer(line: bytes) -> bytes:
        try:
            request = orjson.loads(line)
            op = request.pop("op")
            if op not in handlers:
                raise RpcError(f"unknown op {op!r}; known: {', '.join(sorted(handlers))}")
            result = handlers[op](**request)
            if inspect.isawaitable(result):
                result = await result
            return orjson.dumps({"ok": True, "result": result}, option=orjson.OPT_SERIALIZE_NUMPY)
        except RpcError as error:
            return orjson.dumps({"ok": False, "error": str(error)})
        except Exception as error:  # process boundary: the caller gets the reason
            return orjson.dumps({"ok": False, "error": f"{type(error).__name__}: {error}"})

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(await answer(line) + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(converse, str(path), limit=MAX_LINE_BYTES)
