"""Moving a live service between servers: pre-copy, freeze, commit, flip, drain.

The commit is one compare-and-swap of the service's lease; everything before it can be
given up, everything after it must be finished, and both by anybody, because the
instances act on the lease alone.  This is the coordinator; it holds no state that a
restart would need.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import (
    Holder,
    Lease,
    host_index,
    infrastructure_ip,
    instance_socket,
    lease_path,
    task_services,
    transfer_tcp_port,
)
from controller.errors import EnforcementError
from controller.outcome import EnforcementResult

COPY_TIMEOUT_S = 60.0
SWITCH_OVER_TIMEOUT_S = 2.5
"""Below the time after which a frozen source takes itself back."""
LIVE_TIMEOUT_S = 1.0
DRAIN_S = 0.3
"""Packets that switches had sent the old way when they flipped."""
_POLL_S = 0.002


class Step(StrEnum):
    """In order; announced before it is begun."""

    START_TARGET = "start_target"
    PRE_COPY = "pre_copy"
    SWITCH_OVER = "switch_over"
    COMMIT = "commit"
    GO_LIVE = "go_live"
    FLIP = "flip"
    DRAIN = "drain"
    TERMINATE = "terminate"


class MigrationError(EnforcementError):
    """The service stays with (or went back to) the instance that its lease names."""


class Instances(Protocol):
    """Whoever starts and ends instances: the emulation."""

    async def start(self, service: str, host: str) -> None: ...
    async def stop(self, service: str, host: str) -> None: ...
    async def all(self) -> Sequence[Mapping[str, Any]]: ...


LeadTo = Callable[[str, str], Awaitable[EnforcementResult]]
OnStep = Callable[[Step], Awaitable[None]]


async def _no_watcher(_: Step) -> None:
    return None


@dataclass
class Migration:
    """One move of one service. `run` once; raises `MigrationError`."""

    folder: RunFolder
    inventory: Inventory
    instances: Instances
    lead_to: LeadTo
    service: str
    source: str
    target: str
    on_step: OnStep = _no_watcher

    async def run(self) -> EnforcementResult:
        lease = Lease(lease_path(self.folder, self.service))
        try:
            return await self._run(lease)
        finally:
            lease.close()

    async def _run(self, lease: Lease) -> EnforcementResult:
        before = lease.holder()
        if before.host_index != host_index(self.inventory, self.source):
            raise MigrationError(f"{self.service}: its lease is not at {self.source}")
        after = Holder(before.epoch + 1, host_index(self.inventory, self.target))
        started_ns = time.time_ns()
        try:
            figures = await self._prepare()
            await self.on_step(Step.COMMIT)
            ready = await self._call(self.target, "status")
            if not ready["state_complete"]:
                raise MigrationError(f"{self.target} lost the state before the commit")
            if not lease.swap(before, after):
                raise MigrationError("the source took itself back before the commit")
        except (rpc.RpcError, MigrationError) as error:
            await self._give_up()
            raise MigrationError(f"{self.service} stays at {self.source}: {error}") from error
        live_ns = await self._go_live(lease, after)
        await self.on_step(Step.FLIP)
        result = await self.lead_to(self.service, self.target)
        figures |= await self._finish(result.confirmed)
        measured = {
            **figures,
            "source": self.source,
            "target": self.target,
            "epoch": after.epoch,
            "state_bytes": next(
                s.state_bytes for s in self.inventory.services if s.name == self.service
            ),
            "downtime_ms": (live_ns - figures["frozen_ns"]) / 1e6,
            "duration_ms": (time.time_ns() - started_ns) / 1e6,
        }
        return replace(result, measured=measured)

    async def _prepare(self) -> dict[str, Any]:
        """Until source (frozen) and target hold the same state."""
        await self.on_step(Step.START_TARGET)
        await self.instances.start(self.service, self.target)
        await self.on_step(Step.PRE_COPY)
        await self._call(
            self.source,
            "copy",
            COPY_TIMEOUT_S,
            address=infrastructure_ip(self.inventory, self.target),
            port=transfer_tcp_port(self.inventory, self.service),
        )
        await self.on_step(Step.SWITCH_OVER)
        figures: dict[str, Any] = await self._call(
            self.source, "switch_over", SWITCH_OVER_TIMEOUT_S
        )
        return figures

    async def _go_live(self, lease: Lease, after: Holder) -> int:
        """When the target began to serve; a target that died gives the lease back, because
        the frozen source still holds all of the state."""
        await self.on_step(Step.GO_LIVE)
        deadline_s = time.monotonic() + LIVE_TIMEOUT_S
        reason = f"{self.target} did not go live within {LIVE_TIMEOUT_S:g} s"
        while time.monotonic() < deadline_s:
            try:
                status = await self._call(self.target, "status")
                if status["holds_lease"] and status["epoch"] == after.epoch:
                    return int(status["live_ns"])
                if status["epoch"] > after.epoch:
                    reason = f"{self.target} restarted without the state"
                    break
            except rpc.RpcError as error:
                reason = f"{self.target} died: {error}"
                break
            await asyncio.sleep(_POLL_S)
        now = lease.holder()
        back = Holder(now.epoch + 1, host_index(self.inventory, self.source))
        if now.host_index == after.host_index and lease.swap(now, back):
            await self._stop_target()
        raise MigrationError(f"{self.service} went back to {self.source}: {reason}")

    async def _finish(self, confirmed: bool) -> dict[str, Any]:
        """Pass on what comes late, then end the source. Its death now costs nothing."""
        await self.on_step(Step.DRAIN)
        await asyncio.sleep(DRAIN_S)
        late: dict[str, Any] = {}
        try:
            status = await self._call(self.source, "status")
            late = {"relayed": status["relayed"], "wire_bytes": status["wire_bytes"]}
            target = await self._call(self.target, "status")
            late["served_at_target"] = target["served_here"]
        except rpc.RpcError as error:
            late["note"] = str(error)
        await self.on_step(Step.TERMINATE)
        if confirmed:  # else the old way is still in use: the source goes on passing on
            try:
                await self.instances.stop(self.service, self.source)
            except rpc.RpcError as error:
                late["note"] = f"{self.source} not ended: {error}"
        return late

    async def _give_up(self) -> None:
        """The source serves on (it may have to be told), the target is not needed."""
        # A dead source is started again by its supervisor; the lease is still its own.
        with contextlib.suppress(rpc.RpcError):
            await self._call(self.source, "take_back")
        await self._stop_target()

    async def _stop_target(self) -> None:
        # With the emulation away, `retire_leftovers` finds it later.
        with contextlib.suppress(rpc.RpcError):
            await self.instances.stop(self.service, self.target)

    async def _call(self, host: str, op: str, timeout_s: float = 2.0, **arguments: Any) -> Any:
        connection = rpc.AsyncConnection(instance_socket(self.folder, self.service, host))
        try:
            return await connection.call(op, timeout_s, **arguments)
        finally:
            connection.close()


async def retire_leftovers(folder: RunFolder, inventory: Inventory, instances: Instances) -> None:
    """After a coordinator's death: instances that no lease names are ended.

    Raises `rpc.RpcError` when the emulation does not answer.
    """
    holders = {}
    for service in task_services(inventory):
        lease = Lease(lease_path(folder, service.name))
        holders[service.name] = inventory.hosts[lease.holder().host_index].name
        lease.close()
    for instance in await instances.all():
        if instance["host"] != holders[instance["service"]]:
            await instances.stop(instance["service"], instance["host"])
