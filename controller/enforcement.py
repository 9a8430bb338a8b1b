"""The Enforcer: decisions in, confirmed changes of switches and queues out.

The thin shell around the pure parts (rules, reconcile, handover, queues): it
keeps the current `NetworkState`, sends differences in order, reads them back,
and undoes what was only half made.  It admits nothing: whether a decision is
wise is the guard's work; here only what cannot exist is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.contracts import rpc
from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Cell, Inventory, Port, Reservation
from controller.contracts.queue_tree import QueueRates
from controller.contracts.run_folder import RunFolder
from controller.counters import Counters, assemble
from controller.errors import (
    EnforcementError,
    NotConfirmedError,
    ReservationError,
    SwitchDatabaseError,
    UnknownTargetError,
)
from controller.forwarding import serving_cells
from controller.handover import HandoverMode, HandoverPlan, Phase, plan
from controller.metering import slice_meters
from controller.network_state import Attachment, NetworkState, initial_state, shaped
from controller.network_view import Network, network_of
from controller.ovsdb import SwitchControl, SwitchDatabase
from controller.queues import PortQueues, Queues, port_queues, queue_rates
from controller.reconcile import Change, difference
from controller.rules import compile_attachments, compile_switch
from controller.ryu_client import Answer, RyuClient, RyuStatus
from controller.switch_program import MeterUse, SwitchProgram

CONNECT_TIMEOUT_S = 15.0
_WATCH_PERIOD_S = 0.25
_EMPTY_ANSWER = "already so"


@dataclass(frozen=True)
class EnforcementResult:
    """`hops_ns` (CLOCK_REALTIME): `enforced`, all switches have it; `confirmed`, read back."""

    confirmations: list[Confirmation] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)
    """{flows: {switch: ...}, meters: {switch: ...}, queues: {interface: ...}}, as made or,
    with dry_run, as it would be."""
    hops_ns: dict[str, int] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        return all(c.confirmed for c in self.confirmations)


@dataclass(frozen=True)
class Headroom:
    """A cell's downlink in kbit/s: what reservations may sum up to, and do."""

    reservable_kbps: int
    reserved_kbps: int
    link_kbps: int


class Enforcer:
    """One per RIC. All methods on one event loop; changes of one switch never overlap."""

    def __init__(self, inventory: Inventory, run: RunFolder) -> None:
        self.network: Network = network_of(inventory)
        self._state = initial_state(inventory)
        self._ryu = RyuClient(self.network, run)
        self._database = SwitchDatabase(run.ovsdb_socket)
        self._control = SwitchControl(run.ovs)
        self._queues = PortQueues(self._database, self._control)
        self._generations = itertools.count(1)
        self._switch_locks = {name: asyncio.Lock() for name in self.network.switches}
        self._user_locks = {ue_id: asyncio.Lock() for ue_id in self.network.users}
        self._clearing: set[asyncio.Task[None]] = set()
        self._in_step: dict[str, tuple[str, int]] = {}
        """Switch -> (boot of Ryu, connection) for which it was last reconciled."""
        self._boot = ""
        self._queues_in_doubt: set[str] = set()
        self._meter_uses: dict[str, dict[int, MeterUse]] = {n: {} for n in self.network.switches}
        self._cookies: dict[str, list[int]] = {}
        self._watch: asyncio.Task[None] | None = None
        self.events: list[str] = []
        """What the watch did by itself (reconciled after a reconnect), newest last."""

    # -- life -----------------------------------------------------------------

    @property
    def state(self) -> NetworkState:
        return self._state

    async def start(self) -> None:
        """Reach OVSDB. Ryu is waited for in `install`. Raises `SwitchDatabaseError`."""
        await self._database.connect()

    async def stop(self) -> None:
        """Stops watching; rules stay."""
        tasks = [*self._clearing, *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ryu.close()
        await self._database.close()
        await self._control.close()

    async def install(self) -> list[Confirmation]:
        """Bring every switch and port to the initial state, then keep them there.

        Sends only differences; users whom the core's rules already send elsewhere
        stay there (a restarted RIC does not move anybody).
        Raises `EnforcementError` when a switch does not connect in time.
        """
        status = await self._await_switches()
        self._boot = status.boot
        core, _ = await self._ryu.read(self.network.core)
        for ue_id, cell_id in serving_cells(self.network, core).items():
            self._state = self._state.attached(ue_id, Attachment.at(cell_id))
        names = list(self.network.switches)
        queues, *found = await asyncio.gather(
            self._set_queues(queue_rates(self.network, self._state)),
            *(self._reconcile(name) for name in names),
        )
        for name, confirmation in zip(names, found, strict=True):
            if confirmation.confirmed:
                self._in_step[name] = status.boot, status.switches[name]
        self._watch = self._watch or asyncio.create_task(self._keep_in_step())
        return [*found, queues]

    async def _await_switches(self) -> RyuStatus:
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        missing: Iterable[str] = self.network.switches
        while time.monotonic() < deadline_s:
            with contextlib.suppress(rpc.RpcError):
                status = await self._ryu.status()
                missing = self.network.switches.keys() - status.switches.keys()
                if not missing:
                    return status
            await asyncio.sleep(0.05)
        raise EnforcementError(
            f"switches {', '.join(sorted(missing))} not connected to Ryu "
            f"within {CONNECT_TIMEOUT_S:.0f} s"
        )

    async def _set_queues(self, wanted: Mapping[str, Queues]) -> Confirmation:
        try:
            applied = await self._queues.apply(wanted)
        except (SwitchDatabaseError, NotConfirmedError) as error:
            self._queues_in_doubt.update(wanted)
            return Confirmation(switch="queues", confirmed=False, detail=str(error))
        detail = f"{applied.rows} queues set on {len(wanted)} ports"
        return Confirmation(switch="queues", confirmed=True, detail=detail)

    # -- staying in step --------------------------------------------------------

    async def _keep_in_step(self) -> None:
        """After a restart of Ryu or a reconnect of a switch: send it what it lacks."""
        while True:
            await asyncio.sleep(_WATCH_PERIOD_S)
            try:
                await self._catch_up()
            except (rpc.RpcError, SwitchDatabaseError):
                continue  # Ryu or OVSDB is away; rules forward without them

    async def _catch_up(self) -> None:
        status = await self._ryu.status()
        if status.boot != self._boot:
            await self._ryu.restore_retired()
            self._boot = status.boot
        for name, number in status.switches.items():
            if self._in_step.get(name) != (status.boot, number):
                confirmation = await self._reconcile(name)
                self.events.append(f"reconciled {name}: {confirmation.detail}")
                if confirmation.confirmed:
                    self._in_step[name] = status.boot, number
        if self._queues_in_doubt:
            doubtful, self._queues_in_doubt = self._queues_in_doubt, set()
            everything = queue_rates(self.network, self._state)
            await self._set_queues({i: everything[i] for i in doubtful})

    async def _reconcile(self, switch: str) -> Confirmation:
        async with self._holding([switch]):
            try:
                installed, foreign = await self._ryu.read(switch)
                intended = compile_switch(self.network, self._state, switch)
                self._remember(intended)
                answers = await self._send({switch: difference(installed, intended)})
            except rpc.RpcError as error:
                return Confirmation(switch=switch, confirmed=False, detail=str(error))
        answer = answers[switch]
        note = f"; {foreign} flows are not ours" if foreign else ""
        return Confirmation(switch=switch, confirmed=answer.confirmed, detail=answer.detail + note)

    def _remember(self, program: SwitchProgram) -> None:
        self._cookies[program.switch] = program.counted_cookies()
        self._remember_meters(program.switch, program.meters.values())

    def _remember_meters(self, switch: str, meters: Iterable[Any]) -> None:
        self._meter_uses[switch].update({m.meter_id: m.use for m in meters if m.use})

    @contextlib.asynccontextmanager
    async def _holding(self, switches: Iterable[str]) -> AsyncIterator[None]:
        """Alone on these switches; in one order, so that two never wait for each other."""
        async with contextlib.AsyncExitStack() as stack:
            for name in sorted(set(switches)):
                await stack.enter_async_context(self._switch_locks[name])
            yield

    async def _send(
        self, changes: Mapping[str, Change], purpose: str = "flows"
    ) -> dict[str, Answer]:
        """Never raises: a Ryu that is gone is an answer too, and leaves the switch in doubt."""
        now_ns = time.time_ns()
        answers = {n: Answer(True, _EMPTY_ANSWER, now_ns) for n in changes}
        real = {name: change for name, change in changes.items() if not change.is_empty}
        if not real:
            return answers
        for name, change in real.items():
            self._remember_meters(name, change.meters_add)
        try:
            made = await self._ryu.change(real, next(self._generations), purpose)
        except rpc.RpcError as error:
            made = {n: Answer(False, f"Ryu does not answer: {error}", now_ns) for n in real}
        for name, answer in made.items():
            detail = answer.detail or real[name].words()
            answers[name] = Answer(answer.confirmed, detail, answer.at_ns)
            if not answer.confirmed:
                self._in_step.pop(name, None)
        return answers

    # -- reservations -------------------------------------------------------------

    async def reserve(
        self, cell_id: str, reservations: Sequence[Reservation], dry_run: bool = False
    ) -> EnforcementResult:
        """Replace these (slice, class) reservations of a cell; its others stay.

        Only rates change, never flows. If meters or queues fail, both go back.
        Raises `UnknownTargetError`, `ReservationError`; what a switch refused is in
        the confirmations.
        """
        cell = self._cell(cell_id)
        wanted = [shaped(r) for r in reservations]
        if dry_run:
            after = self._admissible(cell, wanted)
            return EnforcementResult(diff=self._reserve_diff(cell, self._state, after))
        async with self._holding([cell.switch]):
            before, after = self._state, self._admissible(cell, wanted)
            result = await self._set_rates(cell, before, after)
            if result.confirmed:
                # Users may have moved meanwhile: only the reservations are ours.
                self._state = self._state.reserved(cell_id, after.reservations[cell_id].values())
                return result
            undone = await self._set_rates(cell, after, before)
        return _with_compensation(result, undone)

    async def _set_rates(
        self, cell: Cell, before: NetworkState, after: NetworkState
    ) -> EnforcementResult:
        port = self._down_port(cell)
        change = self._meter_change(cell, before, after)
        wanted: dict[str, Queues] = {}
        if self.network.inventory.slicing:
            wanted[port.interface] = port_queues(self.network, after, port)
        answers, applied = await asyncio.gather(
            self._send({cell.switch: change}, "reserve"),
            self._queues.apply(wanted),
            return_exceptions=True,
        )
        if isinstance(answers, BaseException):
            raise answers
        answer = answers[cell.switch]
        details, enforced_ns = [answer.detail], answer.at_ns
        if isinstance(applied, (SwitchDatabaseError, NotConfirmedError)):
            self._queues_in_doubt.update(wanted)
            details.append(f"queues: {applied}")
        elif isinstance(applied, BaseException):
            raise applied
        else:
            details.append(f"{applied.rows} queues set")
            enforced_ns = max(enforced_ns, applied.at_ns)
        confirmed = answer.confirmed and not isinstance(applied, BaseException)
        return EnforcementResult(
            [Confirmation(switch=cell.switch, confirmed=confirmed, detail="; ".join(details))],
            self._reserve_diff(cell, before, after),
            {"enforced": enforced_ns, "confirmed": time.time_ns()},
        )

    def _meter_change(self, cell: Cell, before: NetworkState, after: NetworkState) -> Change:
        old = slice_meters(self.network, before, cell.switch)
        new = slice_meters(self.network, after, cell.switch)
        return Change(cell.switch, meters_modify=tuple(m for i, m in new.items() if old[i] != m))

    def _reserve_diff(
        self, cell: Cell, before: NetworkState, after: NetworkState
    ) -> dict[str, Any]:
        port = self._down_port(cell)
        queues: dict[str, Any] = {}
        if self.network.inventory.slicing:
            old = port_queues(self.network, before, port)
            new = port_queues(self.network, after, port)
            queues[port.interface] = {
                str(i): {"before": _rates_json(old[i]), "after": _rates_json(new[i])}
                for i in new
                if old[i] != new[i]
            }
        return {**_diff_of([self._meter_change(cell, before, after)]), "queues": queues}

    def _admissible(self, cell: Cell, wanted: Sequence[Reservation]) -> NetworkState:
        """The state with them. Raises what cannot exist; wisdom is the guard's."""
        for r in wanted:
            key = (r.slice_id, r.traffic_class)
            if key not in self.network.pairs:
                known = ", ".join(f"{s}/{c}" for s, c in self.network.pairs)
                raise UnknownTargetError(
                    f"no traffic of slice {r.slice_id} class {r.traffic_class}; live: {known}"
                )
            if not 0 <= r.min_kbps <= r.max_kbps:
                raise ReservationError(
                    f"slice {r.slice_id}: min_kbps {r.min_kbps} must be between 0 and "
                    f"max_kbps {r.max_kbps}"
                )
        after = self._state.reserved(cell.cell_id, wanted)
        room = self._headroom(cell, after)
        if room.reserved_kbps > room.reservable_kbps:
            raise ReservationError(
                f"cell {cell.cell_id}: reservations would sum up to {room.reserved_kbps} kbit/s; "
                f"at most {room.reservable_kbps} of {room.link_kbps} are reservable"
            )
        return after

    def headroom(self, cell_id: str) -> Headroom:
        """Numbers for admission. Raises `UnknownTargetError`."""
        return self._headroom(self._cell(cell_id), self._state)

    def _headroom(self, cell: Cell, state: NetworkState) -> Headroom:
        held = state.reservations.get(cell.cell_id, {}).values()
        return Headroom(
            reservable_kbps=round(cell.down_kbps * self.network.inventory.reservable_ratio),
            reserved_kbps=sum(r.min_kbps for r in held),
            link_kbps=cell.down_kbps,
        )

    # -- handovers ----------------------------------------------------------------

    async def handover(
        self,
        ue_id: str,
        cell_id: str,
        dry_run: bool = False,
        mode: HandoverMode | None = None,
    ) -> EnforcementResult:
        """Move a user; returns once it is served by the new cell, confirmed.

        `mode` None: the scenario's. The source's rules are cleared afterwards, when
        what was under way has drained (`settled` waits for that). On a failure the
        user stays where it was.  Raises `UnknownTargetError`, `EnforcementError`.
        """
        target = self._cell(cell_id)
        if ue_id not in self.network.users:
            raise UnknownTargetError(f"unknown user {ue_id!r}")
        chosen = mode or self.network.inventory.handover.mode
        if dry_run:
            steps = self._plan(ue_id, target, chosen)
            return EnforcementResult(diff=self._handover_diff(ue_id, steps))
        lock = self._user_locks[ue_id]
        await lock.acquire()
        try:
            steps = self._plan(ue_id, target, chosen)
            result = await self._switch_over(ue_id, steps)
        except BaseException:
            lock.release()
            raise
        clearing = steps.clearing if result.confirmed else ()
        task = asyncio.create_task(self._clear(ue_id, clearing, lock))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)
        return result

    def _plan(self, ue_id: str, target: Cell, mode: HandoverMode) -> HandoverPlan:
        source = self._state.serving_cell(ue_id)
        if source == target.cell_id:
            raise EnforcementError(f"user {ue_id} is served by cell {source} already")
        return plan(self.network, source, target.cell_id, mode)

    async def _switch_over(self, ue_id: str, steps: HandoverPlan) -> EnforcementResult:
        before, diff = self._state.attachments[ue_id], self._handover_diff(ue_id, steps)
        answers: dict[str, Answer] = {}
        for phase in steps.switching:
            found = await self._enter(ue_id, phase)
            answers.update(found)
            if not all(a.confirmed for a in found.values()):
                self._state = self._state.attached(ue_id, before)
                undone = await asyncio.gather(*(self._reconcile(name) for name in answers))
                return _with_compensation(
                    EnforcementResult(_confirmations(answers), diff),
                    EnforcementResult(list(undone)),
                )
        hops_ns = {
            "enforced": max(a.at_ns for a in answers.values()),
            "confirmed": time.time_ns(),
        }
        return EnforcementResult(_confirmations(answers), diff, hops_ns)

    async def _enter(self, ue_id: str, phase: Phase) -> dict[str, Answer]:
        """One phase, its groups in order; stops at the first group that fails."""
        await asyncio.sleep(phase.wait_ms / 1000)
        answers: dict[str, Answer] = {}
        async with self._holding(itertools.chain(*phase.steps)):
            before = self._state
            after = before.attached(ue_id, phase.attachment)
            for group in phase.steps:
                changes = {name: self._attachment_change(name, before, after) for name in group}
                answers.update(await self._send(changes))
                if not all(a.confirmed for a in answers.values()):
                    return answers
            self._state = self._state.attached(ue_id, phase.attachment)
        return answers

    async def _clear(self, ue_id: str, phases: Sequence[Phase], lock: asyncio.Lock) -> None:
        """A phase that fails leaves its switches to the watch, which knows the new state."""
        try:
            for phase in phases:
                answers = await self._enter(ue_id, phase)
                self._state = self._state.attached(ue_id, phase.attachment)
                for name, answer in answers.items():
                    if not answer.confirmed:
                        self.events.append(f"clearing {name} after handover: {answer.detail}")
        finally:
            lock.release()

    async def settled(self) -> None:
        """Wait until no handover is clearing up."""
        await asyncio.gather(*self._clearing, return_exceptions=True)

    def _attachment_change(self, switch: str, before: NetworkState, after: NetworkState) -> Change:
        return difference(
            compile_attachments(self.network, before, switch),
            compile_attachments(self.network, after, switch),
        )

    def _handover_diff(self, ue_id: str, steps: HandoverPlan) -> dict[str, Any]:
        """From now to the end, all phases together."""
        after = self._state.attached(ue_id, steps.final)
        phases = (*steps.switching, *steps.clearing)
        names = dict.fromkeys(n for p in phases for group in p.steps for n in group)
        return _diff_of([self._attachment_change(n, self._state, after) for n in names])

    # -- counting -----------------------------------------------------------------

    async def counters(self, settle: bool = False) -> Counters:
        """Totals of everything. `settle`: first let vswitchd push its flow totals (tens of
        ms, up to a second under load); ports, queues and meters are always current.
        Raises `rpc.RpcError` when Ryu is away.
        """
        if settle:
            await self._control.command("revalidator/wait")
        at_ns = time.time_ns()
        answers = await self._ryu.counters(self._cookies)
        return assemble(self.network, self._meter_uses, answers, at_ns)

    # -- look-ups -----------------------------------------------------------------

    def _cell(self, cell_id: str) -> Cell:
        if cell_id not in self.network.cells:
            known = ", ".join(self.network.cells)
            raise UnknownTargetError(f"unknown cell {cell_id!r}; known: {known}")
        return self.network.cells[cell_id]

    def _down_port(self, cell: Cell) -> Port:
        ports = self.network.ports[cell.switch]
        return next(p for p in ports if p.port_no == cell.down_port)


def _confirmations(answers: Mapping[str, Answer]) -> list[Confirmation]:
    return [
        Confirmation(switch=n, confirmed=a.confirmed, detail=a.detail) for n, a in answers.items()
    ]


def _with_compensation(failed: EnforcementResult, undone: EnforcementResult) -> EnforcementResult:
    """The failure, with what became of undoing it in every detail."""
    outcome = "undone" if undone.confirmed else "undoing it failed too, will be reconciled"
    found = [
        c if c.confirmed else c.model_copy(update={"detail": f"{c.detail} ({outcome})"})
        for c in failed.confirmations
    ]
    return EnforcementResult(found, failed.diff, failed.hops_ns)


def _diff_of(changes: Iterable[Change]) -> dict[str, Any]:
    flows, meters = {}, {}
    for change in changes:
        words = change.describe()
        flows[change.switch] = {k: v for k, v in words.items() if k.startswith("flows") and v}
        meters[change.switch] = {k: v for k, v in words.items() if k.startswith("meters") and v}
    return {
        "flows": {n: v for n, v in flows.items() if v},
        "meters": {n: v for n, v in meters.items() if v},
        "queues": {},
    }


def _rates_json(rates: QueueRates) -> dict[str, int]:
    return {
        "min_kbps": rates.min_kbps,
        "max_kbps": rates.max_kbps,
        "priority": rates.priority,
    }
