"""The Enforcer: decisions in, confirmed changes of switches and queues out.

The thin shell around the pure parts (rules, reconcile, reservations, handover,
queues).  It decides nothing: it makes a change in order, reads it back, and
undoes what was only half made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

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
from controller.htb_classes import HtbClasses
from controller.intent_documents import attach_document, reserve_document, restored
from controller.journal import Journal
from controller.metering import share_kbps
from controller.migrations import Migrations
from controller.moves import Moves
from controller.network_state import NetworkState, initial_state
from controller.network_view import Network, network_of
from controller.outcome import EnforcementResult, undone
from controller.ovsdb import SwitchControl, SwitchDatabase
from controller.port_queues import Applied, PortQueues
from controller.queues import Queues, queue_rates
from controller.reconcile import Change
from controller.repairs import Listener, RepairKind, Repairs
from controller.reservations import (
    Headroom,
    admitted,
    cell_queues,
    headroom,
    meter_change,
    of_living,
    queue_diff,
)
from controller.ric.measurement import CounterSample
from controller.ryu_client import RyuClient
from controller.scheduling import Schedules
from controller.service_paths import ServicePaths, served_as_leased
from controller.slice_changes import Beside, SliceChanges, SliceOutcome, nothing_beside
from controller.slice_life import Document
from controller.switch_fingerprint import Fingerprints
from controller.switches import Switches
from controller.user_bytes import UserBytes, class_counts, user_meter_counts
from controller.watch import Watch


class Enforcer:
    """One per RIC; all methods on one event loop."""

    def __init__(self, inventory: Inventory, run: RunFolder) -> None:
        network = network_of(inventory)
        self._ryu = RyuClient({s.name: s.dpid for s in inventory.switches}, run)
        state = with_functions(served_as_leased(initial_state(inventory), inventory, run), run)
        self._switches = Switches(network, state, self._ryu)
        self.migrations = Migrations(run, inventory, ServicePaths(self._switches))
        self._database = SwitchDatabase(run.ovsdb_socket)
        self._control = SwitchControl(run.ovs)
        self.functions = Functions(run, self._switches, self._settle, self.migrations.used_bytes)
        self._classes = HtbClasses(f"/run/netns/{run.namespace}")
        self._queues = PortQueues(self._database, self._classes)
        self._queues_in_doubt: set[str] = set()
        self._moves = Moves(self._switches)
        self._slices = SliceChanges(inventory, self._switches, self._apply_queues)
        self._user_bytes = UserBytes()
        self._journal = Journal(run.intents)
        self._schedules = Schedules(self._switches, self._journal)
        self.repairs = Repairs()
        self._watch = Watch(self._switches, Fingerprints(run.ovs), self.repairs, self._check_queues)
        self._watching: asyncio.Task[None] | None = None

    # -- life -----------------------------------------------------------------

    async def start(self) -> None:
        """Reach OVSDB (Ryu is waited for in `install`). Raises `SwitchDatabaseError`."""
        await self._database.connect()

    async def stop(self) -> None:
        """Stop watching; the rules stay."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._watch.close()
        await self._moves.stop()
        self._journal.close()
        self._ryu.close()
        self._classes.close()
        await self._database.close()
        await self._control.close()

    async def install(self) -> list[Confirmation]:
        """Bring switches and ports to the state last decided (at first: the scenario's), then
        keep them in step.

        Raises `EnforcementError` when a switch does not connect within 15 s.
        """
        placed = self._restore()
        found, queues = await asyncio.gather(
            self._switches.install(placed),
            self._set_queues(queue_rates(self.network, self.state)),
        )
        self._watching = self._watching or asyncio.create_task(self._watch.run())
        self._recovery = asyncio.create_task(self.migrations.recover())
        return [*found, queues]

    def _restore(self) -> set[str]:
        """From the journal; the users whose place it knows."""
        documents = self._journal.read()
        state, problems = restored(self.state, documents)
        self._switches.state = of_living(self.network, state)
        for problem in problems:
            self.repairs.note(RepairKind.NOT_RECONCILED, "journal", problem)
        return {d["ue_id"] for d in documents if d["kind"] == "attach"}

    async def _set_queues(self, wanted: Mapping[str, Queues]) -> Confirmation:
        applied = await self._apply_queues(wanted)
        if isinstance(applied, str):
            return Confirmation(switch="queues", confirmed=False, detail=applied)
        detail = f"{applied.rows} queues set on {len(wanted)} ports"
        return Confirmation(switch="queues", confirmed=True, detail=detail)

    async def _apply_queues(
        self, wanted: Mapping[str, Queues], first: Awaitable[object] | None = None
    ) -> Applied | str:
        """The reason when it failed; the ports are then in doubt. `first`: see `PortQueues`."""
        try:
            return await self._queues.apply(wanted, first)
        except (SwitchDatabaseError, NotConfirmedError) as error:
            self._queues_in_doubt.update(wanted)
            return str(error)

    async def _check_queues(self) -> None:
        """Put back queues that are in doubt, or that somebody changed."""
        doubted, self._queues_in_doubt = self._queues_in_doubt, set()
        wanted = queue_rates(self.network, self.state)
        if not (doubted | await self._queues.changed(wanted)):
            return
        # Alone: a reservation under way has set its queues before it counts as made.
        async with self._switches.holding(self.network.switches):
            wanted = queue_rates(self.network, self.state)
            if not (doubtful := await self._queues.changed(wanted, doubted)):
                return
            done = await self._set_queues({i: wanted[i] for i in doubtful})
        self.repairs.note(RepairKind.QUEUES, ", ".join(sorted(doubtful)), done.detail)

    def alarms(self) -> list[str]:
        """What is wrong now or was repaired in the last minute, one line each."""
        journal = [] if self._journal.alarm is None else [self._journal.alarm]
        return [*self._watch.alarms(), *self.repairs.alarms(), *journal]

    def repair_counts(self) -> Mapping[str, int]:
        """Repairs since the start, by kind."""
        return self.repairs.counts

    def on_repair(self, listener: Listener) -> None:
        self.repairs.listener = listener

    # -- what is now ----------------------------------------------------------

    @property
    def network(self) -> Network:
        """With the slices of the moment."""
        return self._switches.network

    @property
    def inventory(self) -> Inventory:
        """What the emulation built, with the slices of the moment."""
        return self.network.inventory

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
                self._journal.append(reserve_document(cell_id, held))
                return result
            undoing = await self._set_rates(cell, after, before)
        return self._refused(undone(result, undoing.confirmations))

    def _refused(self, result: EnforcementResult) -> EnforcementResult:
        for said in result.confirmations:
            if not said.confirmed:
                self.repairs.note(RepairKind.REFUSED_CHANGE, said.switch, said.detail)
        return result

    async def _set_rates(
        self, cell: Cell, before: NetworkState, after: NetworkState
    ) -> EnforcementResult:
        change = meter_change(self.network, cell, before, after)
        sending = asyncio.create_task(self._switches.send({cell.switch: change}, "reserve"))
        await asyncio.sleep(0)  # it is on its way while the kernel's classes are set
        applied = await self._apply_queues(cell_queues(self.network, after, cell), first=sending)
        answer = (await sending)[cell.switch]
        failed = isinstance(applied, str)
        words = f"queues: {applied}" if isinstance(applied, str) else f"{applied.rows} queues set"
        confirmation = Confirmation(
            switch=cell.switch,
            confirmed=answer.confirmed and not failed,
            detail=f"{answer.detail}; {words}",
        )
        enforced_ns = answer.at_ns if isinstance(applied, str) else max(answer.at_ns, applied.at_ns)
        hops_ns = {"enforced": enforced_ns, "confirmed": time.time_ns()}
        return EnforcementResult([confirmation], self._reserve_diff(cell, before, after), hops_ns)

    def _reserve_diff(
        self, cell: Cell, before: NetworkState, after: NetworkState
    ) -> dict[str, Any]:
        queues = queue_diff(self.network, cell, before, after)
        return Change.diff([meter_change(self.network, cell, before, after)], queues)

    async def schedule(
        self, slice_id: int, shares: Mapping[str, float], dry_run: bool = False
    ) -> EnforcementResult:
        """Users' shares within a slice; see `Schedules.schedule`."""
        return self._refused(await self._schedules.schedule(slice_id, shares, dry_run))

    def user_limit_kbps(self, ue_id: str, slice_id: int) -> int | None:
        """What a user may be sent in a slice, where it is now; None: nothing limits it."""
        return share_kbps(self.network, self.state, ue_id, slice_id)

    # -- handovers ----------------------------------------------------------------

    async def handover(
        self,
        ue_id: str,
        cell_id: str,
        dry_run: bool = False,
        mode: HandoverMode | None = None,
    ) -> EnforcementResult:
        """Move a user; see `Moves.handover`. `mode` None: the scenario's."""
        result = await self._moves.handover(ue_id, self._cell(cell_id), dry_run, mode)
        if not dry_run and result.confirmed:
            self._journal.append(attach_document(ue_id, cell_id))
        return self._refused(result)

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

    # -- slices -------------------------------------------------------------------

    async def change_slices(
        self, document: Document, dry_run: bool = False, beside: Beside = nothing_beside
    ) -> SliceOutcome:
        """Create, change or terminate a slice; see `slice_life` for documents and errors.

        `beside` runs while the switches are at work, see `SliceChanges.apply`.
        """
        if dry_run:
            return self._slices.rehearse(document)
        made = await self._slices.apply(document, beside)
        for cell_id in made.reserved_in:
            held = made.planned.state.reservations[cell_id]
            self._journal.append(reserve_document(cell_id, held.values()))
        return made

    # -- counting -----------------------------------------------------------------

    async def counters(self, settle: bool = False) -> Counters:
        """Totals of everything. `settle`: first let vswitchd push its flow totals, which
        otherwise lag by up to a second; ports, queues and meters never lag.
        Raises `rpc.RpcError` when Ryu is away, `SwitchDatabaseError` when vswitchd is.
        """
        if settle:
            await self._settle()
        at_ns = time.time_ns()
        answers = await self._switches.read_counters()
        self._user_bytes.add(self.network, answers)
        return assemble(self.network, self._switches.meter_uses, answers, at_ns)

    async def _settle(self) -> None:
        await self._control.command("revalidator/wait")

    async def sample(self) -> CounterSample:
        """Bytes by (cell, slice, class) downlink, and by (user, cell)."""
        counters = await self.counters()
        classes = class_counts(self.network, counters)
        totals, metered = self._user_bytes.totals(), user_meter_counts(counters)
        return CounterSample(counters.at_ns, classes, totals, metered)
