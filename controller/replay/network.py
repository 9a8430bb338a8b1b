"""What was enforced in a recorded run, as the RIC asks the enforcement for it.

Nothing is ever changed by a decision: a dry run says what would be, all else is refused.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory, Reservation
from controller.functions import Functions
from controller.guard import ReservationKey, key_of
from controller.network_state import Attachment, NetworkState, initial_state, shaped
from controller.outcome import EnforcementResult
from controller.ric.errors import Conflict
from controller.ric.measurement import CounterSample
from controller.slice_changes import SliceOutcome
from controller.slice_life import Planned, applied

REFUSAL = "a recording is replayed: its network is what it was"
HINT = "decide by POST /api/v1/decisions, or start a testbed"


class RecordedNetwork:
    """`Enforcing` over a recording; the player says what holds when."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._state = initial_state(inventory)

    def hold(self, cell_id: str, reservations: Sequence[Reservation]) -> None:
        """From now on this was enforced in the cell."""
        self._state = self._state.reserved(cell_id, reservations)

    def attach(self, ue_id: str, cell_id: str) -> None:
        """From now on the user was served there."""
        self._state = self._state.attached(ue_id, Attachment.at(cell_id))

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    @property
    def state(self) -> NetworkState:
        return self._state

    @property
    def functions(self) -> Functions:
        raise Conflict(REFUSAL, HINT)

    def attachments(self) -> Mapping[str, str]:
        return {ue_id: a.downlink for ue_id, a in self._state.attachments.items()}

    def reservations(self, cell_id: str) -> Sequence[Reservation]:
        return list(self._state.reservations.get(cell_id, {}).values())

    def connected_switches(self) -> Sequence[str]:
        return []

    def alarms(self) -> Sequence[str]:
        return []

    def repair_counts(self) -> Mapping[str, int]:
        return {}

    def on_repair(self, listener: Callable[[str, str, str], None]) -> None:
        """Nothing is there to be repaired."""

    async def start(self) -> None:
        return None

    async def install(self) -> Sequence[Confirmation]:
        return []

    async def reserve(
        self, cell_id: str, reservations: Sequence[Reservation], dry_run: bool = False
    ) -> EnforcementResult:
        _only(dry_run)
        held = self._state.reservations.get(cell_id, {})
        after = {key_of(r): shaped(r) for r in reservations}
        changed = [key for key, r in after.items() if held.get(key) != r]
        return EnforcementResult(
            diff={"reservations": {cell_id: [_change(key, held, after) for key in changed]}}
        )

    async def schedule(
        self, slice_id: int, shares: Mapping[str, float], dry_run: bool = False
    ) -> EnforcementResult:
        _only(dry_run)
        return EnforcementResult(diff={"shares": {str(slice_id): dict(shares)}})

    def user_limit_kbps(self, ue_id: str, slice_id: int) -> int | None:
        return None

    async def handover(self, ue_id: str, cell_id: str, dry_run: bool = False) -> EnforcementResult:
        _only(dry_run)
        return EnforcementResult(diff={"attachments": {ue_id: cell_id}})

    async def change_slices(
        self,
        document: Mapping[str, Any],
        dry_run: bool = False,
        beside: Callable[[Planned], Awaitable[Confirmation | None]] | None = None,
    ) -> SliceOutcome:
        _only(dry_run)
        return SliceOutcome(applied(self._inventory, self._state, document), EnforcementResult())

    def service_hosts(self) -> Mapping[str, str]:
        return {s.name: s.host for s in self._inventory.services if s.kind == "task"}

    def used_memory_bytes(self, host: str) -> int:
        tasks = [s for s in self._inventory.services if s.kind == "task" and s.host == host]
        return sum(s.state_bytes for s in tasks)

    async def migrate(self, service: str, host: str, dry_run: bool = False) -> EnforcementResult:
        _only(dry_run)
        return EnforcementResult(diff={"services": {service: host}})

    async def sample(self) -> CounterSample:
        return CounterSample(time.time_ns(), {}, {})

    async def switch_counters(self) -> Mapping[str, Any]:
        raise Conflict(REFUSAL, HINT)

    async def stop(self) -> None:
        return None


def _only(dry_run: bool) -> None:
    """Raises `Conflict`."""
    if not dry_run:
        raise Conflict(REFUSAL, HINT)


def _change(
    key: ReservationKey,
    held: Mapping[ReservationKey, Reservation],
    after: Mapping[ReservationKey, Reservation],
) -> dict[str, Any]:
    before = held.get(key)
    return {
        "slice_id": key[0],
        "traffic_class": key[1].value,
        "before": [before.min_kbps, before.max_kbps] if before else None,
        "after": [after[key].min_kbps, after[key].max_kbps],
    }
