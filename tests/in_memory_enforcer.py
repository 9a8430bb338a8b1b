"""An enforcement without switches: the RIC's protocol on plain dictionaries, for tests.

It keeps what was reserved and where users are attached, counts bytes that a test
feeds it, and can be told to fail, to stall, or to leave a switch unconfirmed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.live_slices import inventory_with
from controller.contracts.slices import TrafficClass
from controller.functions import Functions
from controller.guard import ReservationKey, key_of
from controller.network_state import Attachment, NetworkState, initial_state, shaped
from controller.outcome import EnforcementResult
from controller.ric.measurement import ClassCount, CounterSample
from controller.slice_changes import Beside, SliceOutcome, nothing_beside
from controller.slice_life import applied


@dataclass(frozen=True)
class InMemoryOutcome:
    confirmations: Sequence[Confirmation]
    diff: Mapping[str, Any]
    hops_ns: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


class InMemoryEnforcer:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._attachments = {u.ue_id: u.cell_id for u in inventory.users}
        self._reservations: dict[str, dict[ReservationKey, Reservation]] = {
            c.cell_id: {} for c in inventory.cells
        }
        self._slices = dict(initial_state(inventory).slices)
        self.calls: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self.unconfirmed: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.counts: dict[tuple[str, int, TrafficClass], ClassCount] = {}
        self.shares: dict[int, dict[str, float]] = {}
        self.user_bytes: dict[tuple[str, str], int] = {}

    @property
    def inventory(self) -> Inventory:
        return inventory_with(self._inventory, list(self._slices.values()))

    @property
    def state(self) -> NetworkState:
        attachments = {ue_id: Attachment.at(cell) for ue_id, cell in self._attachments.items()}
        return NetworkState(attachments, self._reservations, self._slices)

    async def change_slices(
        self,
        document: Mapping[str, Any],
        dry_run: bool = False,
        beside: Beside = nothing_beside,
    ) -> SliceOutcome:
        """What is planned is what the pure core says; switches and hosts are missing."""
        planned = applied(self._inventory, self.state, document)
        if dry_run:
            return SliceOutcome(planned, EnforcementResult(diff={"flows": {}}))
        self.calls.append((document["kind"], str(planned.slice_id)))
        confirmations = self._confirmations([cell.switch for cell in self._inventory.cells])
        if all(c.confirmed for c in confirmations):
            self._slices = dict(planned.state.slices)
            self._reservations = {c: dict(r) for c, r in planned.state.reservations.items()}
        return SliceOutcome(planned, EnforcementResult(confirmations))

    @property
    def functions(self) -> Functions:
        raise NotImplementedError("no switches, so nothing to steer")

    def attachments(self) -> Mapping[str, str]:
        return self._attachments

    def reservations(self, cell_id: str) -> Sequence[Reservation]:
        return list(self._reservations[cell_id].values())

    def connected_switches(self) -> Sequence[str]:
        return [cell.switch for cell in self._inventory.cells]

    def alarms(self) -> Sequence[str]:
        return []

    def repair_counts(self) -> Mapping[str, int]:
        return {}

    def on_repair(self, listener: Callable[[str, str, str], None]) -> None:
        self.listener = listener

    async def start(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def install(self) -> Sequence[Confirmation]:
        for cell in self._inventory.initial_reservations:
            self._reservations[cell.cell_id] = {key_of(r): shaped(r) for r in cell.reservations}
        return self._confirmations([cell.switch for cell in self._inventory.cells])

    async def reserve(
        self, cell_id: str, reservations: Sequence[Reservation], dry_run: bool = False
    ) -> InMemoryOutcome:
        before = self._reservations[cell_id]
        after = {key_of(r): shaped(r) for r in reservations}
        diff = {
            "queues": [
                f"{slice_id}/{traffic_class.value}"
                for (slice_id, traffic_class), r in after.items()
                if before.get((slice_id, traffic_class)) != r
            ]
        }
        return await self._change(f"reserve {cell_id}", cell_id, diff, dry_run, {"after": after})

    async def schedule(
        self, slice_id: int, shares: Mapping[str, float], dry_run: bool = False
    ) -> InMemoryOutcome:
        diff = {"meters": sorted(shares)}
        if dry_run:
            return InMemoryOutcome([], diff)
        self.calls.append(("schedule", str(slice_id)))
        self.shares[slice_id] = dict(shares)
        now_ns = time.time_ns()
        hops_ns = {"enforced": now_ns, "confirmed": now_ns}
        rates = {ue_id: round(10_000 * share) for ue_id, share in shares.items()}
        return InMemoryOutcome([], diff, hops_ns, {"rates_kbps": rates})

    def user_limit_kbps(self, ue_id: str, slice_id: int) -> int | None:
        share = self.shares.get(slice_id, {}).get(ue_id)
        return None if share is None else round(10_000 * share)

    async def handover(self, ue_id: str, cell_id: str, dry_run: bool = False) -> InMemoryOutcome:
        diff = {"flows": [f"{ue_id} -> {cell_id}"]}
        return await self._change(f"handover {ue_id}", cell_id, diff, dry_run, {"ue_id": ue_id})

    async def _change(
        self, call: str, cell_id: str, diff: Mapping[str, Any], dry_run: bool, new: dict[str, Any]
    ) -> InMemoryOutcome:
        if dry_run:
            return InMemoryOutcome([], diff)
        self.calls.append((call, cell_id))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        confirmations = self._confirmations([self._inventory.cell(cell_id).switch])
        if all(c.confirmed for c in confirmations):
            if "after" in new:
                self._reservations[cell_id] = new["after"]
            else:
                self._attachments[new["ue_id"]] = cell_id
        now_ns = time.time_ns()
        return InMemoryOutcome(confirmations, diff, {"enforced": now_ns, "confirmed": now_ns})

    def _confirmations(self, switches: Sequence[str]) -> list[Confirmation]:
        return [
            Confirmation(switch=s, confirmed=s != self.unconfirmed, detail="as told by the test")
            for s in switches
        ]

    def service_hosts(self) -> Mapping[str, str]:
        return {s.name: s.host for s in self._inventory.services if s.kind == "task"}

    def used_memory_bytes(self, host: str) -> int:
        tasks = [s for s in self._inventory.services if s.kind == "task" and s.host == host]
        return sum(s.state_bytes for s in tasks)

    async def migrate(self, service: str, host: str, dry_run: bool = False) -> InMemoryOutcome:
        return InMemoryOutcome([], {"flows": [f"{service} -> {host}"]})

    async def sample(self) -> CounterSample:
        return CounterSample(time.time_ns(), dict(self.counts), dict(self.user_bytes))

    async def switch_counters(self) -> Mapping[str, Any]:
        return {"slices": {}, "shared_queue_drops": {}, "unread_switches": {}}

    async def stop(self) -> None:
        return None
