"""JSON-RPC 1.0 over Unix sockets: OVSDB transactions, and vswitchd's control socket.

Spoken directly with asyncio instead of through the `ovs` package's IDL: the IDL
wants a polling thread of its own and a replica of every table, and all that is
needed here is transact, one monitored cell, and a few commands.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.errors import SwitchDatabaseError

TIMEOUT_S = 10.0
_DATABASE = "Open_vSwitch"
_MONITOR = "applied"
_LOST = "lost"
"""Told like a notification when the connection ends."""


class JsonRpc:
    """One connection; requests may overlap. `on_notification(method, params)` gets the rest."""

    def __init__(
        self,
        path: Path,
        on_notification: Callable[[str, list[Any]], None] = lambda method, params: None,
    ) -> None:
        self._path = path
        self._on_notification = on_notification
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._writer is not None and not self._writer.is_closing()

    async def connect(self) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        except OSError as error:
            raise SwitchDatabaseError(f"no answer at {self._path}: {error}") from error
        self._reading = asyncio.create_task(self._read(reader))

    async def call(self, method: str, params: list[Any]) -> Any:
        """The result. Raises `SwitchDatabaseError` for an error, a loss or silence."""
        if self._writer is None or not self.connected:
            raise SwitchDatabaseError(f"{self._path}: not connected")
        self._next_id += 1
        number = self._next_id
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send({"method": method, "params": params, "id": number})
        try:
            return await asyncio.wait_for(answer, TIMEOUT_S)
        except TimeoutError as error:
            raise SwitchDatabaseError(
                f"{self._path}: {method}: no answer in {TIMEOUT_S} s"
            ) from error
        finally:
            self._waiting.pop(number, None)

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message, separators=(",", ":")).encode())

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Messages follow each other without a separator."""
        characters = codecs.getincrementaldecoder("utf-8")()
        text = ""
        try:
            while chunk := await reader.read(1 << 20):
                text = self._take_all(text + characters.decode(chunk))
        except OSError:
            pass
        finally:
            if self._writer is not None:
                self._writer.close()
            self._fail_all()
            self._on_notification(_LOST, [])

    def _take_all(self, text: str) -> str:
        """Handle every whole message; returns what is left."""
        decoder = json.JSONDecoder()
        while text := text.lstrip():
            try:
                message, end = decoder.raw_decode(text)
            except ValueError:
                return text
            text = text[end:]
            self._take(message)
        return ""

    def _take(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method == "echo":
            self._send({"result": message["params"], "error": None, "id": message["id"]})
        elif method is not None:
            self._on_notification(method, message["params"])
        elif message.get("id") in self._waiting:
            self._settle(self._waiting[message["id"]], message)

    def _settle(self, answer: asyncio.Future[Any], message: dict[str, Any]) -> None:
        if answer.done():
            return
        if message.get("error") is not None:
            answer.set_exception(SwitchDatabaseError(f"{self._path}: {message['error']}"))
        else:
            answer.set_result(message.get("result"))

    def _fail_all(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SwitchDatabaseError(f"{self._path}: connection lost"))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class SwitchDatabase:
    """OVSDB of the run's switch: transactions, and whether vswitchd has applied them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rpc = JsonRpc(path, self._notified)
        self._applied = 0
        self._changed = asyncio.Event()

    async def connect(self) -> None:
        """Idempotent; after a loss it connects anew."""
        if self._rpc.connected:
            return
        await self._rpc.close()
        self._rpc = JsonRpc(self._path, self._notified)
        await self._rpc.connect()
        watched = {"Open_vSwitch": {"columns": ["cur_cfg"]}}
        tables = await self._rpc.call("monitor", [_DATABASE, _MONITOR, watched])
        self._note(tables)

    async def transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Results of the operations. Raises `SwitchDatabaseError` when one was refused."""
        await self.connect()
        results: list[dict[str, Any] | None] = await self._rpc.call(
            "transact", [_DATABASE, *operations]
        )
        refused = [r for r in results if r is not None and "error" in r]
        if refused:
            reasons = "; ".join(f"{r['error']}: {r.get('details', '')}" for r in refused)
            raise SwitchDatabaseError(f"OVSDB refused the transaction: {reasons}")
        return [r or {} for r in results]

    async def commit(self, operations: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """Results, and the configuration's number: see `until_applied`."""
        counted: list[dict[str, Any]] = [
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["next_cfg", "+=", 1]],
            },
            {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]},
        ]
        *results, _, selected = await self.transact([*operations, *counted])
        return results, int(selected["rows"][0]["next_cfg"])

    def has_applied(self, number: int) -> bool:
        """Has vswitchd said so?"""
        return self._applied >= number

    async def until_applied(self, number: int) -> None:
        """Until vswitchd said so. Raises `SwitchDatabaseError` when not within `TIMEOUT_S`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not self.has_applied(number):
                    if not self._rpc.connected:
                        raise SwitchDatabaseError(f"{self._path}: connection lost")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise SwitchDatabaseError(
                f"vswitchd has not applied configuration {number} within {TIMEOUT_S} s"
            ) from error

    def _notified(self, method: str, params: list[Any]) -> None:
        if method == "update" and params[0] == _MONITOR:
            self._note(params[1])
        elif method == _LOST:
            self._changed.set()

    def _note(self, tables: dict[str, Any]) -> None:
        for row in tables.get("Open_vSwitch", {}).values():
            self._applied = int(row["new"]["cur_cfg"])
        self._changed.set()

    async def close(self) -> None:
        await self._rpc.close()


class SwitchControl:
    """vswitchd's control socket (what ovs-appctl speaks to); finds it by the pid file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rpc: JsonRpc | None = None
        self._connecting = asyncio.Lock()

    async def command(self, name: str, *arguments: str) -> str:
        """Its answer as text. Raises `SwitchDatabaseError`."""
        async with self._connecting:
            rpc = await self._connection()
        return str(await rpc.call(name, list(arguments)))

    async def _connection(self) -> JsonRpc:
        if self._rpc is not None and self._rpc.connected:
            return self._rpc
        try:
            pid = int((self._folder / "ovs-vswitchd.pid").read_text())
        except (OSError, ValueError) as error:
            raise SwitchDatabaseError(f"no running ovs-vswitchd in {self._folder}") from error
        rpc = JsonRpc(self._folder / f"ovs-vswitchd.{pid}.ctl")
        await rpc.connect()
        self._rpc = rpc
        return rpc

    async def close(self) -> None:
        if self._rpc is not None:
            await self._rpc.close()
