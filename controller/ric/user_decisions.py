"""Decisions about single users on their way: guarded, enforced, watched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from controller.contracts.decisions import Confirmation, DecisionRecord
from controller.contracts.inventory import Inventory
from controller.contracts.radio_port import RadioPort
from controller.contracts.rpc import AsyncConnection, RpcError
from controller.contracts.run_folder import RunFolder
from controller.guard import (
    Basis,
    Rejection,
    TargetOrder,
    check_migrate_twin,
    check_offload,
    check_order,
    check_schedule,
)
from controller.outcome import EnforcementResult
from controller.ric.enforcing import Enforcing, Outcome
from controller.ric.neighbours import local_controllers
from controller.ric.schedule_effect import WatchedSchedule
from controller.ric.user_intents import (
    AdaptLinkIntent,
    MigrateTwinIntent,
    OffloadIntent,
    ScheduleIntent,
    UserIntent,
)

COPY_TIMEOUT_S = 3.0


class UserDecisions:
    """The pipeline's part for `UserIntent`s."""

    def __init__(self, run: RunFolder, inventory: Inventory, enforcer: Enforcing) -> None:
        self._enforcer = enforcer
        self._edge_of_cell = {cell.cell_id: cell.edge for cell in inventory.cells}
        self._services = inventory.services
        self._places: dict[tuple[str, str], str] = {}
        self._emulation = AsyncConnection(run.emulation_socket)
        self._edges: dict[str, AsyncConnection] = local_controllers(run, inventory)

    def guard(self, intent: UserIntent, basis: Basis, order: TargetOrder) -> Rejection | None:
        if rejection := check_order(basis, order):
            return rejection
        if isinstance(intent, ScheduleIntent):
            return check_schedule(intent.shares)
        if isinstance(intent, OffloadIntent):
            now = self.place_of(intent.ue_id, intent.service)
            return check_offload(intent.service, now, intent.to)
        if isinstance(intent, AdaptLinkIntent):
            return None  # it takes nothing from anybody else
        return check_migrate_twin(intent.ue_id, self._edge_of(intent.ue_id), intent.edge)

    async def enforce(self, intent: UserIntent, dry_run: bool) -> Outcome:
        if isinstance(intent, ScheduleIntent):
            return await self._enforcer.schedule(intent.slice_id, intent.shares, dry_run)
        if isinstance(intent, OffloadIntent):
            return await self._offload(intent, dry_run)
        if isinstance(intent, AdaptLinkIntent):
            return await self._adapt_link(intent, dry_run)
        return await self._copy_twin(intent, dry_run)

    def place_of(self, ue_id: str, service: str) -> str:
        """Where a user's tasks for a service are worked on."""
        return self._places.get((ue_id, service), service)

    def places(self, ue_id: str) -> dict[str, str]:
        """Of all services that the user asks and that may be worked on elsewhere."""
        asked = (s.name for s in self._services if ue_id in s.users and len(s.places) > 1)
        return {service: self.place_of(ue_id, service) for service in asked}

    async def recover(self) -> None:
        """A restarted RIC learns from the users' clients where they send their requests."""
        with contextlib.suppress(RpcError):
            for item in await self._emulation.call("offloads", COPY_TIMEOUT_S):
                self._places[item["ue_id"], item["service"]] = item["place"]

    async def _offload(self, intent: OffloadIntent, dry_run: bool) -> EnforcementResult:
        """Confirmed by the user's client (it stands for the device's own software)."""
        ue_id, service = intent.ue_id, intent.service
        before = self.place_of(ue_id, service)
        diff: dict[str, Any] = {"tasks": {ue_id: {service: {"from": before, "to": intent.to}}}}
        if dry_run:
            return EnforcementResult(diff=diff)
        try:
            await self._emulation.call(
                "offload", COPY_TIMEOUT_S, ue_id=ue_id, service=service, to=intent.to
            )
        except RpcError as error:
            return EnforcementResult(
                [Confirmation(switch=ue_id, confirmed=False, detail=str(error))], diff
            )
        self._places[ue_id, service] = intent.to
        now_ns = time.time_ns()
        said = Confirmation(switch=ue_id, confirmed=True, detail=f"requests go to {intent.to}")
        return EnforcementResult([said], diff, {"enforced": now_ns, "confirmed": now_ns})

    def _edge_of(self, ue_id: str) -> str:
        return self._edge_of_cell[self._enforcer.attachments()[ue_id]]

    async def _adapt_link(self, intent: AdaptLinkIntent, dry_run: bool) -> EnforcementResult:
        """Confirmed by the emulation, which is the radio."""
        ue_id, max_cqi = intent.ue_id, intent.max_cqi
        diff: dict[str, Any] = {"links": {ue_id: {"max_cqi": max_cqi}}}
        if dry_run:
            return EnforcementResult(diff=diff)
        try:
            measured = await self._emulation.call(
                "adapt_link", COPY_TIMEOUT_S, ue_id=ue_id, max_cqi=max_cqi
            )
        except RpcError as error:
            return EnforcementResult(
                [Confirmation(switch=ue_id, confirmed=False, detail=str(error))], diff
            )
        now_ns = time.time_ns()
        said = Confirmation(switch=ue_id, confirmed=True, detail=f"at most CQI {max_cqi or 15}")
        hops_ns = {"enforced": now_ns, "confirmed": now_ns}
        return EnforcementResult([said], diff, hops_ns, measured=measured)

    async def radio_port(self, ue_id: str) -> RadioPort:
        """What is counted there now. Raises `RpcError`."""
        found = await self._emulation.call("radio_port", COPY_TIMEOUT_S, ue_id=ue_id)
        return RadioPort.from_json(found)

    async def _copy_twin(self, intent: MigrateTwinIntent, dry_run: bool) -> EnforcementResult:
        """Confirmed when the next edge says that it holds what was sent, or newer."""
        source, target = self._edge_of(intent.ue_id), intent.edge
        diff: dict[str, Any] = {"twins": {intent.ue_id: {"from": source, "to": target}}}
        if dry_run:
            return EnforcementResult(diff=diff)
        try:
            sent = await self._call(source, "send_ahead", ue_id=intent.ue_id, edge=target)
            held = await self._call(target, "keep_ahead", ue_id=intent.ue_id)
        except RpcError as error:
            said = Confirmation(switch=target, confirmed=False, detail=str(error))
            return EnforcementResult([said], diff)
        now_ns = time.time_ns()
        confirmed = held["version"] >= sent["version"]
        detail = f"version {held['version']} of {sent['version']} is there"
        said = Confirmation(switch=target, confirmed=confirmed, detail=detail)
        hops_ns = {"enforced": now_ns, "confirmed": now_ns}
        return EnforcementResult([said], diff, hops_ns, measured={**sent, "source": source})

    async def _call(self, at: str, op: str, **arguments: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._edges[at].call(op, COPY_TIMEOUT_S, **arguments)
        return found

    def close(self) -> None:
        self._emulation.close()
        for edge in self._edges.values():
            edge.close()


def watched_schedule(record: DecisionRecord, intent: ScheduleIntent) -> WatchedSchedule:
    rates = {u: k for u, k in record.effect_detail.get("rates_kbps", {}).items() if k is not None}
    confirmed_ns = record.hops_ns["confirmed"]
    return WatchedSchedule(record.decision_id, intent.slice_id, rates, confirmed_ns)
