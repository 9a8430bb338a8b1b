"""The life of slices at the RIC: one way in for API, command line and decisions.

Switches and queues first, confirmed (`Enforcer.change_slices`); then the run folder
remembers; then hosts get or lose addresses and local controllers learn who is a member.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from controller.audit import AppendOnlyLog, Audit
from controller.contracts.decisions import Confirmation
from controller.contracts.live_slices import LiveSlice, documents, remember
from controller.contracts.rpc import AsyncConnection, RpcError
from controller.contracts.run_folder import RunFolder
from controller.errors import (
    AdmissionError,
    ControllerError,
    ReservationError,
    SliceConflictError,
    SliceError,
    UnknownTargetError,
)
from controller.network_state import NetworkState
from controller.outcome import EnforcementResult
from controller.ric.enforcing import Enforcing, SliceEnforced
from controller.ric.errors import Conflict, Malformed, NotFound, RicError, Unreachable
from controller.slice_life import Planned
from controller.slice_promises import named

log = logging.getLogger(__name__)

HOSTS_TIMEOUT_S = 10.0
NOTICE_TIMEOUT_S = 2.0
Document = dict[str, Any]
TellHosts = Callable[[Planned], Awaitable[Confirmation]]


class NotConfirmed(RicError):
    """Switches did not confirm; what was half made is undone, and the reason says by whom."""

    status = 503


@dataclass(frozen=True)
class SliceChange:
    """What became of one intent. `live`: the slice after it, or as it was when it ended."""

    kind: str
    slice_id: int
    live: LiveSlice
    dry_run: bool
    outcome: SliceEnforced
    elapsed_ms: float = 0.0
    steps_ms: dict[str, float] = field(default_factory=dict)

    @property
    def result(self) -> EnforcementResult:
        """As a decision's outcome."""
        return self.outcome.result

    def document(self) -> Document:
        return {
            "kind": self.kind,
            "dry_run": self.dry_run,
            "slice": self.live.model_dump(mode="json"),
            "slice_id": self.slice_id,
            "admission": [room.as_json() for room in self.outcome.planned.rooms],
            "confirmations": [c.model_dump() for c in self.result.confirmations],
            "diff": self.outcome.result.diff,
            "elapsed_ms": self.elapsed_ms,
            "steps_ms": self.steps_ms,
        }


class SliceLife:
    """One change at a time. `on_changed` is called after each, before its caller hears of it.

    `alarm`: why the slices of the moment could not be kept, or None.
    """

    def __init__(
        self, run: RunFolder, enforcer: Enforcing, audit: Audit, on_changed: Callable[[], None]
    ) -> None:
        self._run = run
        self._enforcer = enforcer
        self._audit = audit
        self._on_changed = on_changed
        self.alarm: str | None = None
        self._lock = asyncio.Lock()
        self._hosts = AsyncConnection(run.emulation_socket)
        edges = sorted({cell.edge for cell in enforcer.inventory.cells})
        self._locals = {e: AsyncConnection(run.local_controller_socket(e)) for e in edges}
        self._notices: set[asyncio.Task[None]] = set()
        self._lines = AppendOnlyLog(run.results / "slices.jsonl")
        self._lived = _lines_of(run)

    def slice_id(self, wanted: str) -> int:
        """Of a slice by name, S-NSSAI or id. Raises `NotFound`, `Malformed`."""
        try:
            return named(self._enforcer.state, wanted)
        except ControllerError as error:
            raise ric_error(error) from None

    async def change(self, document: Document, caller: str, dry_run: bool = False) -> SliceChange:
        """Carry out an intent (see `slice_life`), or only say what it would do.

        Raises `NotFound`, `Conflict` (with the numbers of admission), `Malformed`,
        `NotConfirmed`; then nothing has changed.
        """
        try:
            return await self._change(document, caller, dry_run)
        except RicError as error:
            if not dry_run:
                self._audit.note("slice", caller, intent=document, refused=error.message)
            raise

    async def _change(self, document: Document, caller: str, dry_run: bool) -> SliceChange:
        started_s = time.perf_counter()
        async with self._lock:
            before = self._enforcer.state
            hosts_ms: list[float] = []

            async def tell_hosts(planned: Planned) -> Confirmation:
                told_s = time.perf_counter()
                said = await self._tell_hosts(planned.state)
                hosts_ms.append(_ms(time.perf_counter() - told_s))
                return said

            outcome = await self._enforced(document, dry_run, tell_hosts)
            slice_id = outcome.planned.slice_id
            if slice_id is None:
                raise Malformed(f"{document.get('kind')!r} is not about a slice")
            live = outcome.planned.state.slices.get(slice_id) or before.slices[slice_id]
            made = SliceChange(document["kind"], slice_id, live, dry_run, outcome)
            if dry_run:
                return made
            self._tell_controllers()
            self._on_changed()
            elapsed_ms = _ms(time.perf_counter() - started_s)
            made = SliceChange(
                made.kind,
                slice_id,
                live,
                dry_run,
                outcome,
                elapsed_ms,
                {**outcome.result.steps_ms, "hosts (beside)": sum(hosts_ms)},
            )
        self._note(made, caller)
        self._audit.note("slice", caller, intent=document, elapsed_ms=elapsed_ms)
        return made

    async def _enforced(
        self,
        document: Document,
        dry_run: bool,
        beside: Callable[[Planned], Awaitable[Confirmation]],
    ) -> SliceEnforced:
        try:
            outcome = await self._enforcer.change_slices(document, dry_run, beside)
        except ControllerError as error:
            raise ric_error(error) from None
        missing = [c for c in outcome.result.confirmations if not c.confirmed]
        if missing:
            await self._tell_hosts(self._enforcer.state)
            raise NotConfirmed(
                "; ".join(f"{c.switch}: {c.detail or 'no confirmation'}" for c in missing),
                "nothing changed; is every switch connected? see ./testbed.sh status",
            )
        return outcome

    def _tell_controllers(self) -> None:
        """Remembered first, so that a process that starts anew meanwhile reads the same."""
        live = list(self._enforcer.state.slices.values())
        try:
            remember(self._run, live)
            self.alarm = None
        except OSError as error:
            name = self._run.live_slices.name
            self.alarm = f"{name}: {error.strerror}; a restart finds the slices before"
            log.error("%s", self.alarm)
        told = documents(live)
        for edge, connection in self._locals.items():
            task = asyncio.ensure_future(_notify(edge, connection, told))
            self._notices.add(task)
            task.add_done_callback(self._notices.discard)

    async def _tell_hosts(self, state: NetworkState) -> Confirmation:
        """Hosts get and lose addresses; with rules or not, what has none is dropped."""
        told = documents(state.slices.values())
        try:
            hosts = await self._hosts.call("slices", HOSTS_TIMEOUT_S, live=told)
        except RpcError as error:
            return Confirmation(switch="hosts", confirmed=False, detail=str(error))
        detail = f"addresses of {', '.join(hosts)}" if hosts else "no addresses to change"
        return Confirmation(switch="hosts", confirmed=True, detail=detail)

    async def synchronise(self) -> None:
        """After a restart: hosts as the state says, whatever was half made before."""
        await self._tell_hosts(self._enforcer.state)

    # -- what lived -------------------------------------------------------------------

    def _note(self, made: SliceChange, caller: str) -> None:
        live = made.live
        line = {
            "at_ns": time.time_ns(),
            "kind": made.kind,
            "by": caller,
            "slice_id": made.slice_id,
            "s_nssai": live.slice.s_nssai.model_dump(),
            "name": live.slice.name,
            "sla": live.slice.sla.model_dump(mode="json"),
            "cells": live.slice.cells,
            "users": live.users,
            "reserved": [
                {
                    "cell_id": cell_id,
                    "traffic_class": r.traffic_class.value,
                    "min_kbps": r.min_kbps,
                    "max_kbps": r.max_kbps,
                }
                for cell_id, held in made.outcome.planned.state.reservations.items()
                for r in held.values()
                if r.slice_id == made.slice_id
            ],
            "elapsed_ms": made.elapsed_ms,
        }
        self._lived.append(line)
        self._lines.append(line)

    def lived(self) -> list[Document]:
        """Every change of slices since the testbed is up, oldest first."""
        return list(self._lived)

    def close(self) -> None:
        for task in self._notices:
            task.cancel()
        for connection in (self._hosts, *self._locals.values()):
            connection.close()
        self._lines.close()


async def _notify(edge: str, connection: AsyncConnection, live: list[dict[str, object]]) -> None:
    """A local controller that is away reads the run folder when it comes back."""
    try:
        await connection.call("slices", NOTICE_TIMEOUT_S, live=live)
    except RpcError as error:
        log.warning("local controller at %s was not told of slices: %s", edge, error)


def ric_error(error: ControllerError) -> RicError:
    """As the API tells it."""
    if isinstance(error, UnknownTargetError):
        return NotFound(str(error), "see ./testbed.sh slice list, cell list, ue list")
    if isinstance(error, AdmissionError):
        return Conflict(f"not admitted: {error}", "ask for less, elsewhere, or resize others")
    if isinstance(error, SliceConflictError):
        return Conflict(str(error), "see ./testbed.sh slice list")
    if isinstance(error, (SliceError, ReservationError)):
        return Malformed(str(error), "shapes: /openapi.json")
    return Unreachable(str(error))


def _lines_of(run: RunFolder) -> list[Document]:
    try:
        lines = (run.results / "slices.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    return [orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
