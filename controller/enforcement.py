"""The Enforcer: decisions in, confirmed changes of switches and queues out.

The thin shell around the pure parts (rules, reconcile, reservations, handover,
queues).  It decides nothing: it makes a change in order, reads it back, and
undoes what was only half made.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from controller.contracts import rpc
from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Cell, Inventory, Reservation
from controller.contracts.run_folder import RunFolder
from controller.counters import Counters, assemble
from controller.errors import (
    NotConfirmedError,
    SwitchDatabaseError,
    UnknownTargetError,
)
from controller.functions import Functions, with_functions
from controller.handover import HandoverMode
from controller.migrations import Migrations
from controller.moves import Moves
from controller.network_state import NetworkState, initial_state
from controller.network_view import Network, network_of
from controller.outcome import EnforcementResult, undone
from controller.ovsdb import SwitchControl, SwitchDatabase
from controller.queues import Applied, PortQueues, Queues, queue_rates
from controller.reconcile import Change
from controller.reservations import (
    Headroom,
    admitted,
    cell_queues,
    headroom,
    meter_change,
    queue_diff,
)
from controller.ric.measurement import CounterSample
from controller.ryu_client import RyuClient
from controller.service_paths import ServicePaths, served_as_leased
from controller.switches import Switches
from controller.user_bytes import UserBytes, class_counts

_WATCH_PERIOD_S = 0.25
_REMEMBERED_EVENTS = 200


class Enforcer:
    """One per RIC; all methods on one event loop."""

    def __init__(self, inventory: Inventory, run: RunFolder) -> None:
        self.network: Network = network_of(inventory)
        self._ryu = RyuClient(self.network, run)
        state = with_functions(served_as_leased(initial_state(inventory), inventory, run), run)
        self._switches = Switches(self.network, state, self._ryu)
        self.migrations = Migrations(run, inventory, ServicePaths(self._switches))
        self.functions = Functions(run, self._switches)
        self._database = SwitchDatabase(run.ovsdb_socket)
        self._control = SwitchControl(run.ovs)
        self._queues = PortQueues(self._database, self._control)
        self._queues_in_doubt: set[str] = set()
        self._moves = Moves(self._switches)
        self._watch: asyncio.Task[None] | None = None
        self._user_bytes = UserBytes()
        self.events: deque[str] = deque(maxlen=_REMEMBERED_EVENTS)
        """What the watch did by itself, newest last."""

    # -- life -----------------------------------------------------------------

    async def start(self) -> None:
        """Reach OVSDB (Ryu is waited for in `install`). Raises `SwitchDatabaseError`."""
        await self._database.connect()

    async def stop(self) -> None:
        """Stop watching; the rules stay."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._moves.stop()
        self._ryu.close()
        await self._database.close()
        await self._control.close()

    async def install(self) -> list[Confirmation]:
        """Bring switches and ports to the initial state, then keep them in step.

        Raises `EnforcementError` when a switch does not connect within 15 s.
        """
        found, queues = await asyncio.gather(
            self._switches.install(), self._set_queues(queue_rates(self.network, self.state))
        )
        self._watch = self._watch or asyncio.create_task(self._keep_in_step())
        self._recovery = asyncio.create_task(self.migrations.recover())
        return [*found, queues]

    async def _set_queues(self, wanted: Mapping[str, Queues]) -> Confirmation:
        applied = await self._apply_queues(wanted)
        if isinstance(applied, str):
            return Confirmation(switch="queues", confirmed=False, detail=applied)
        detail = f"{applied.rows} queues set on {len(wanted)} ports"
        return Confirmation(switch="queues", confirmed=True, detail=detail)

    async def _apply_queues(self, wanted: Mapping[str, Queues]) -> Applied | str:
        """The reason when it failed; the ports are then in doubt."""
        try:
            return await self._queues.apply(wanted)
        except (SwitchDatabaseError, NotConfirmedError) as error:
            self._queues_in_doubt.update(wanted)
            return str(error)

    async def _keep_in_step(self) -> None:
        """After a restart of Ryu or a reconnect of a switch: send what it lacks."""
        while True:
            await asyncio.sleep(_WATCH_PERIOD_S)
            try:
                for done in await self._switches.catch_up():
                    outcome = "reconciled" if done.confirmed else "could not reconcile"
                    self.events.append(f"{outcome} {done.switch}: {done.detail}")
            except rpc.RpcError:
                continue  # Ryu is away; rules forward without it
            if self._queues_in_doubt:
                doubtful, self._queues_in_doubt = self._queues_in_doubt, set()
                wanted = queue_rates(self.network, self.state)
                done = await self._set_queues({i: wanted[i] for i in doubtful})
                self.events.append(f"queues of {', '.join(sorted(doubtful))}: {done.detail}")

    # -- what is now ----------------------------------------------------------

    @property
    def state(self) -> NetworkState:
        return self._switches.state

    def attachments(self) -> dict[str, str]:
        """ue_id -> serving cell."""
        return {ue_id: a.downlink for ue_id, a in self.state.attachments.items()}

    def reservations(self, cell_id: str) -> list[Reservation]:
        """As enforced: a real-time pair's ceiling is its guarantee."""
        return list(self.state.reservations.get(self._cell(cell_id).cell_id, {}).values())

    def headroom(self, cell_id: str) -> Headroom:
        """Numbers for admission. Raises `UnknownTargetError`."""
        return headroom(self.network, self.state, self._cell(cell_id))

    def connected_switches(self) -> list[str]:
        """Names, as of the last quarter of a second."""
        return list(self._switches.connected)

    def _cell(self, cell_id: str) -> Cell:
        if cell_id not in self.network.cells:
            known = ", ".join(self.network.cells)
            raise UnknownTargetError(f"unknown cell {cell_id!r}; known: {known}")
        return self.network.cells[cell_id]

    # -- reservations -----------------------------------------------------------

    async def reserve(
        self, cell_id: str, reservations: Sequence[Reservation], dry_run: bool = False
    ) -> EnforcementResult:
        """The cell's reservations shall be exactly these; only rates change, never flows.

        Meters and queues go at once; if either fails, both go back.
        Raises `UnknownTargetError`, `ReservationError`; what a switch refused is in
        the confirmations.
        """
        cell = self._cell(cell_id)
        if dry_run:
            after = admitted(self.network, self.state, cell, reservations)
            return EnforcementResult(diff=self._reserve_diff(cell, self.state, after))
        async with self._switches.holding([cell.switch]):
            before = self.state
            after = admitted(self.network, before, cell, reservations)
            result = await self._set_rates(cell, before, after)
            if result.confirmed:
                # Users may have moved meanwhile: only the reservations are ours.
                held = after.reservations[cell_id].values()
                self._switches.state = self.state.reserved(cell_id, held)
                return result
            undoing = await self._set_rates(cell, after, before)
        return undone(result, undoing.confirmations)

    async def _set_rates(
        self, cell: Cell, before: NetworkState, after: NetworkState
    ) -> EnforcementResult:
        change = meter_change(self.network, cell, before, after)
        answers, applied = await asyncio.gather(
            self._switches.send({cell.switch: change}, "reserve"),
            self._apply_queues(cell_queues(self.network, after, cell)),
        )
        answer = answers[cell.switch]
        failed = isinstance(applied, str)
        words = f"queues: {applied}" if isinstance(applied, str) else f"{applied.rows} queues set"
        confirmation = Confirmation(
            switch=cell.switch,
            confirmed=answer.confirmed and not failed,
            detail=f"{answer.detail}; {words}",
        )
        enforced_ns = answer.at_ns if isinstance(applied, str) else max(answer.at_ns, applied.at_ns)
        return EnforcementResult(
            [confirmation],
            self._reserve_diff(cell, before, after),
            {"enforced": enforced_ns, "confirmed": time.time_ns()},
        )

    def _reserve_diff(
        self, cell: Cell, before: NetworkState, after: NetworkState
    ) -> dict[str, Any]:
        queues = queue_diff(self.network, cell, before, after)
        return Change.diff([meter_change(self.network, cell, before, after)], queues)

    # -- handovers ----------------------------------------------------------------

    async def handover(
        self,
        ue_id: str,
        cell_id: str,
        dry_run: bool = False,
        mode: HandoverMode | None = None,
    ) -> EnforcementResult:
        """Move a user; see `Moves.handover`. `mode` None: the scenario's."""
        return await self._moves.handover(ue_id, self._cell(cell_id), dry_run, mode)

    # -- services ------------------------------------------------------------------

    def service_hosts(self) -> dict[str, str]:
        """Task service -> server."""
        return self.migrations.hosts()

    def used_memory_bytes(self, host: str) -> int:
        return self.migrations.used_bytes(host) + self.functions.used_bytes(host)

    async def migrate(self, service: str, host: str, dry_run: bool = False) -> EnforcementResult:
        """Move a task service; see `Migrations.migrate`."""
        return await self.migrations.migrate(service, host, dry_run)

    async def settled(self) -> None:
        """Wait until no handover is clearing up."""
        await self._moves.settled()

    # -- counting -----------------------------------------------------------------

    async def counters(self, settle: bool = False) -> Counters:
        """Totals of everything. `settle`: first let vswitchd push its flow totals, which
        otherwise lag by up to a second; ports, queues and meters never lag.
        Raises `rpc.RpcError` when Ryu is away, `SwitchDatabaseError` when vswitchd is.
        """
        if settle:
            await self._control.command("revalidator/wait")
        at_ns = time.time_ns()
        answers = await self._switches.read_counters()
        self._user_bytes.add(self.network, answers)
        return assemble(self.network, self._switches.meter_uses, answers, at_ns)

    async def sample(self) -> CounterSample:
        """Bytes by (cell, slice, class) downlink, and by (user, cell)."""
        counters = await self.counters()
        classes = class_counts(self.network, counters)
        return CounterSample(counters.at_ns, classes, self._user_bytes.totals())
