"""The calling side of `rpc`, blocking: all that a command needs, and quick to load."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import orjson


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
