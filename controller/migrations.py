"""Services as the enforcement knows them: where each is, what servers hold, and moving one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import task_services
from controller.migration import Instances, Migration, retire_leftovers
from controller.outcome import EnforcementResult
from controller.service_paths import ServicePaths

_START_TIMEOUT_S = 15.0


class EmulationInstances:
    """Asks the emulation over its socket. Raises `rpc.RpcError`."""

    def __init__(self, run: RunFolder) -> None:
        self._path = run.emulation_socket

    async def _call(self, op: str, **arguments: Any) -> Any:
        connection = rpc.AsyncConnection(self._path)
        try:
            return await connection.call(op, _START_TIMEOUT_S, **arguments)
        finally:
            connection.close()

    async def start(self, service: str, host: str) -> None:
        await self._call("start_instance", service=service, host=host)

    async def stop(self, service: str, host: str) -> None:
        await self._call("stop_instance", service=service, host=host)

    async def all(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = await self._call("instances")
        return found


class Migrations:
    """Moves of different services go side by side; the caller holds one service's lock."""

    def __init__(
        self,
        run: RunFolder,
        inventory: Inventory,
        paths: ServicePaths,
        instances: Instances | None = None,
    ) -> None:
        self._run, self._inventory, self._paths = run, inventory, paths
        self._instances = instances or EmulationInstances(run)
        self._tasks = {s.name: s for s in task_services(inventory)}
        self._arriving: dict[str, str] = {}

    def hosts(self) -> dict[str, str]:
        """Task service -> server that serves it now."""
        return {name: self._paths.host_of(name) for name in self._tasks}

    def used_bytes(self, host: str) -> int:
        """State in a server, that of services on their way to it included."""
        return sum(
            service.state_bytes
            for name, service in self._tasks.items()
            if host in (self._paths.host_of(name), self._arriving.get(name))
        )

    async def migrate(self, name: str, host: str, dry_run: bool) -> EnforcementResult:
        """Returns once the service runs at `host` and its rules lead there.

        Raises `MigrationError`; then the service is where it was.
        """
        if dry_run:
            return self._paths.diff(name, host)
        self._arriving[name] = host
        try:
            return await Migration(
                self._run,
                self._inventory,
                self._instances,
                self._paths.lead_to,
                name,
                self._paths.host_of(name),
                host,
            ).run()
        finally:
            del self._arriving[name]

    async def recover(self) -> None:
        """What a coordinator that died left behind; nothing to do at a first start."""
        if self._tasks and self._run.emulation_socket.exists():
            await asyncio.sleep(0.5)  # late packets of a move that had been committed
            with contextlib.suppress(rpc.RpcError):
                await retire_leftovers(self._run, self._inventory, self._instances)
