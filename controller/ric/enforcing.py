"""What the RIC needs of the enforcement: a protocol, so that the pipeline knows no switch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory, Reservation
from controller.functions import Functions
from controller.network_state import NetworkState
from controller.outcome import EnforcementResult
from controller.ric.measurement import CounterSample
from controller.slice_life import Document, Planned


class Outcome(Protocol):
    """`hops_ns`: CLOCK_REALTIME of the enforcement's own steps."""

    @property
    def confirmations(self) -> Sequence[Confirmation]: ...
    @property
    def diff(self) -> Mapping[str, Any]: ...
    @property
    def hops_ns(self) -> Mapping[str, int]: ...
    @property
    def measured(self) -> Mapping[str, Any]: ...


class SliceEnforced(Protocol):
    """A slice's change: what was planned (state, rooms) and what the switches said."""

    @property
    def planned(self) -> Planned: ...
    @property
    def result(self) -> EnforcementResult: ...


class Enforcing(Protocol):
    """Applies reservations and attachments to the switches; final only when confirmed.

    `reserve` takes all reservations of the cell as they shall be; with `dry_run` it
    changes nothing and returns the diff.
    """

    @property
    def inventory(self) -> Inventory:
        """What the emulation built, with the slices of the moment."""

    @property
    def state(self) -> NetworkState:
        """What is enforced now, the slices of the moment in it."""

    @property
    def functions(self) -> Functions: ...

    def attachments(self) -> Mapping[str, str]:
        """ue_id -> serving cell_id, as enforced now."""

    def reservations(self, cell_id: str) -> Sequence[Reservation]:
        """Live reservations of the cell, the filler's included."""

    def connected_switches(self) -> Sequence[str]:
        """Switches whose control channel is up, by name."""

    def alarms(self) -> Sequence[str]:
        """What is wrong with the enforcement, one line each."""

    def repair_counts(self) -> Mapping[str, int]:
        """What it repaired by itself since its start, by kind."""

    def on_repair(self, listener: Callable[[str, str, str], None]) -> None:
        """Be told of every repair: (kind, where, detail)."""

    async def start(self) -> None: ...
    async def install(self) -> Sequence[Confirmation]: ...
    async def reserve(
        self, cell_id: str, reservations: Sequence[Reservation], dry_run: bool = False
    ) -> Outcome: ...
    async def schedule(
        self, slice_id: int, shares: Mapping[str, float], dry_run: bool = False
    ) -> Outcome:
        """Users' shares within a slice; exactly these, {}: none."""

    def user_limit_kbps(self, ue_id: str, slice_id: int) -> int | None:
        """What a user may be sent in a slice, where it is now; None: nothing limits it."""

    async def handover(self, ue_id: str, cell_id: str, dry_run: bool = False) -> Outcome: ...
    async def change_slices(
        self,
        document: Document,
        dry_run: bool = False,
        beside: Callable[[Planned], Awaitable[Confirmation | None]] = ...,
    ) -> SliceEnforced:
        """Create, change or terminate a slice: `slice_life` has documents and errors.
        `beside` runs while the switches are at work."""

    def service_hosts(self) -> Mapping[str, str]:
        """Task service -> server that serves it now."""

    def used_memory_bytes(self, host: str) -> int:
        """What services hold in a server, or will when they have arrived."""

    async def migrate(self, service: str, host: str, dry_run: bool = False) -> Outcome: ...
    async def sample(self) -> CounterSample: ...

    async def switch_counters(self) -> Mapping[str, Any]:
        """All counters of all switches, flow totals up to date, as a JSON document."""

    async def stop(self) -> None: ...
