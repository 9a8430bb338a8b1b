"""Network functions (VNFs) of a run: place, move, remove, and what passed them.

The emulation sets the function up in a server before any rule leads there, and takes
it away after the last packet has left.  What is placed stands in the run folder too:
a restarted controller must not open a firewall.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from controller.contracts import rpc
from controller.contracts.inventory import Host
from controller.contracts.run_folder import RunFolder
from controller.errors import EnforcementError, SwitchDatabaseError, UnknownTargetError
from controller.function_chain import order
from controller.network_state import ChainedFunction, NetworkState
from controller.network_view import Network
from controller.outcome import EnforcementResult, confirmations_of
from controller.reconcile import Change, difference
from controller.rules import compile_attachments
from controller.ryu_client import Answer
from controller.switches import Switches
from controller.whole_file import replace_whole

DRAIN_S = 0.3
FUNCTION_BYTES = 65_536
"""What a function counts for in its server's memory."""


def functions_path(run: RunFolder) -> Path:
    return run.path / "functions.json"


def with_functions(state: NetworkState, run: RunFolder) -> NetworkState:
    """What an earlier controller of this run had placed."""
    path = functions_path(run)
    if not path.exists():
        return state
    for document in orjson.loads(path.read_bytes()):
        state = state.chained(ChainedFunction(**document))
    return state


class Functions:
    """One change at a time. Raises `UnknownTargetError`, `EnforcementError`, `rpc.RpcError`."""

    def __init__(
        self,
        run: RunFolder,
        switches: Switches,
        settle: Callable[[], Awaitable[object]],
        held_bytes: Callable[[str], int],
    ) -> None:
        """`settle`: lets vswitchd credit what it forwarded so far; see `_send`.
        `held_bytes`: what services hold in a server's memory."""
        self._run, self._switches, self._settle = run, switches, settle
        self._held_bytes = held_bytes
        self._lock = asyncio.Lock()

    @property
    def _network(self) -> Network:
        """With the slices of the moment."""
        return self._switches.network

    def used_bytes(self, host: str) -> int:
        placed = self._switches.state.functions.values()
        return FUNCTION_BYTES * sum(f.host == host for f in placed)

    async def documents(self) -> list[dict[str, Any]]:
        """Each with the counters of its rules."""
        return [
            {
                "name": f.name,
                "service": f.service,
                "host": f.host,
                "deny": list(f.deny),
                **await self._emulation("function_counters", name=f.name, host=f.host),
            }
            for f in self._switches.state.functions.values()
        ]

    async def place(
        self, name: str, service: str, host: str, deny: Sequence[str], dry_run: bool
    ) -> EnforcementResult:
        """Place a function, or move the one of that name to another host, rules and all."""
        async with self._lock:
            before = self._switches.state
            old = before.functions.get(name)
            wanted = self._checked(name, service, host, deny, old)
            sources = [self._session_ip(ue_id, service) for ue_id in deny]
            switches = order(self._network, wanted, self._service_host(service))
            if dry_run:
                return EnforcementResult(diff=self._diff(switches, before.chained(wanted)))
            address = next(s for s in self._network.inventory.services if s.name == service).address
            await self._emulation(
                "place_function", name=name, host=host, address=address, deny=sources
            )
            moves = old is not None and old.host != host
            result = await self._apply(switches, before.chained(wanted), DRAIN_S * moves)
            if old is not None and moves:
                await asyncio.sleep(DRAIN_S)
                settled = ChainedFunction(name, service, host, tuple(deny))
                await self._apply(list(reversed(switches)), self._switches.state.chained(settled))
                await self._emulation("remove_function", name=name, host=old.host)
            return result

    async def remove(self, name: str, dry_run: bool = False) -> EnforcementResult:
        """The straight way first, then, when nothing is under way through it, the function."""
        async with self._lock:
            before = self._switches.state
            function = before.functions.get(name)
            if function is None:
                known = ", ".join(before.functions) or "none"
                raise UnknownTargetError(f"unknown function {name!r}; known: {known}")
            at = self._network.hosts[function.host].switch
            way = order(self._network, function, self._service_host(function.service))
            others = [s for s in reversed(way) if s != at]
            if dry_run:
                return EnforcementResult(diff=self._diff(way, before.unchained(name)))
            straight = self._switches.state.unchained(name)
            # In one go: between two, the watch would take what changed for somebody's meddling.
            answers = await self._send([*others, at], before, straight, DRAIN_S)
            self._commit(straight)
            await self._emulation("remove_function", name=name, host=function.host)
            return EnforcementResult(confirmations_of(answers))

    def _checked(
        self, name: str, service: str, host: str, deny: Sequence[str], old: ChainedFunction | None
    ) -> ChainedFunction:
        inventory = self._network.inventory
        found = next((s for s in inventory.services if s.name == service), None)
        if found is None:
            known = ", ".join(s.name for s in inventory.services)
            raise UnknownTargetError(f"unknown service {service!r}; known: {known}")
        server = self._network.hosts.get(host)
        if server is None or server.kind not in ("edge", "cloud"):
            known = ", ".join(h.name for h in inventory.hosts if h.kind in ("edge", "cloud"))
            raise UnknownTargetError(f"unknown server {host!r}; known: {known}")
        if any(a.slice_id == found.slice_id for a in self._network.local_addresses[host]):
            raise EnforcementError(
                f"{host} has addresses of {service}'s slice; a function needs a server without"
            )
        if old is None or old.host != host:
            self._refuse_full(server)
        if old is not None and old.service != service:
            raise EnforcementError(f"function {name} is for {old.service}; remove it first")
        others = [f for f in self._switches.state.functions.values() if f.name != name]
        taken = next((f.name for f in others if f.service == service), None)
        if taken is not None:
            raise EnforcementError(f"service {service} has function {taken} already")
        draining = old.host if old is not None and old.host != host else None
        return ChainedFunction(name, service, host, tuple(deny), draining)

    def _refuse_full(self, server: Host) -> None:
        if server.memory_bytes is None:
            return
        free_bytes = (
            server.memory_bytes - self._held_bytes(server.name) - self.used_bytes(server.name)
        )
        if free_bytes < FUNCTION_BYTES:
            raise EnforcementError(
                f"{server.name} is full: a function needs {FUNCTION_BYTES} bytes, "
                f"{free_bytes} of {server.memory_bytes} are free"
            )

    def _session_ip(self, ue_id: str, service: str) -> str:
        slice_id = next(s.slice_id for s in self._network.inventory.services if s.name == service)
        user = self._network.users.get(ue_id)
        for session in user.sessions if user is not None else ():
            if session.slice_id == slice_id:
                return session.ip
        raise UnknownTargetError(f"user {ue_id!r} has no session in the slice of {service}")

    def _service_host(self, name: str) -> str:
        service = next(s for s in self._network.inventory.services if s.name == name)
        return self._switches.state.service_host(service)

    async def _apply(
        self, switches: Sequence[str], after: NetworkState, pause_s: float = 0.0
    ) -> EnforcementResult:
        before = self._switches.state
        diff = self._diff(switches, after)
        answers = await self._send(switches, before, after, pause_s)
        if not all(a.confirmed for a in answers.values()):
            undoing = await asyncio.gather(*(self._switches.reconcile(s) for s in switches))
            words = "; ".join(a.detail for a in answers.values() if not a.confirmed)
            state = "undone" if all(c.confirmed for c in undoing) else "the watch undoes it"
            raise EnforcementError(f"function not placed: {words} ({state})")
        self._commit(after)
        return EnforcementResult(confirmations_of(answers), diff)

    async def _send(
        self,
        switches: Sequence[str],
        before: NetworkState,
        after: NetworkState,
        pause_s: float = 0.0,
    ) -> dict[str, Answer]:
        """One switch after the other; `pause_s` between two, for what is under way."""
        answers: dict[str, Answer] = {}
        async with self._switches.holding(switches):
            for switch in switches:
                await asyncio.sleep(pause_s if answers else 0.0)
                # What is not credited yet would be to the new way, and the packet balance is off.
                with contextlib.suppress(SwitchDatabaseError):
                    await self._settle()
                answers |= await self._switches.send({switch: self._change(switch, before, after)})
        return answers

    def _commit(self, after: NetworkState) -> None:
        """Users may have moved meanwhile: only the functions are ours."""
        self._switches.state = self._switches.state.with_functions(after.functions)
        kept = [
            {"name": f.name, "service": f.service, "host": f.host, "deny": list(f.deny)}
            for f in after.functions.values()
        ]
        replace_whole(functions_path(self._run), orjson.dumps(kept))

    def _diff(self, switches: Sequence[str], after: NetworkState) -> dict[str, Any]:
        before = self._switches.state
        return Change.diff([self._change(s, before, after) for s in switches], {})

    def _change(self, switch: str, before: NetworkState, after: NetworkState) -> Change:
        return difference(
            compile_attachments(self._network, before, switch),
            compile_attachments(self._network, after, switch),
        )

    async def _emulation(self, op: str, **arguments: Any) -> Any:
        connection = rpc.AsyncConnection(self._run.emulation_socket)
        try:
            return await connection.call(op, 10.0, **arguments)
        finally:
            connection.close()
