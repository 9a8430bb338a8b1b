"""JSON lines over a Unix socket: how processes of the testbed call each other.

Unix sockets cross network namespaces, so no management network is needed.
Request `{"op": str, ...arguments}`, answer `{"ok": true, "result": ...}` or
`{"ok": false, "error": str}`; one connection may carry many requests in order.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

MAX_LINE_BYTES = 64 * 1024 * 1024

Handler = Callable[..., Any | Awaitable[Any]]


class RpcError(Exception):
    """The other process refused or failed; the message is its own."""


class RpcUnavailable(RpcError):
    """Nobody answers at that socket."""


def answer_of(line: bytes) -> Any:
    answer = orjson.loads(line)
    if not answer["ok"]:
        raise RpcError(answer["error"])
    return answer.get("result")


class Connection:
    """A blocking client; keeps its connection. Not thread safe."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise RpcUnavailable(f"no answer at {path}: {error}") from error
        self._lines = self._socket.makefile("rb")

    def call(self, op: str, **arguments: Any) -> Any:
        try:
            self._socket.sendall(orjson.dumps({"op": op, **arguments}) + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise RpcUnavailable(f"{self._path}: {error}") from error
        if not line:
            raise RpcUnavailable(f"{self._path}: connection closed during {op}")
        return answer_of(line)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def call(path: Path, op: str, timeout_s: float = 10.0, **arguments: Any) -> Any:
    """One blocking call on a connection of its own."""
    with Connection(path, timeout_s) as connection:
        return connection.call(op, **arguments)


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
