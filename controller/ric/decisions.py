"""The pipeline of decisions: receive -> guard -> enforce -> confirm -> record.

One entry for all callers.  Decisions on the same cell or user go one at a time;
everything that judges is pure and elsewhere (`intents`, `controller.guard`), as is
what comes later (`effects`).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from controller.audit import Audit
from controller.contracts.decisions import DecisionRequest, Effect, Verdict
from controller.contracts.inventory import Inventory
from controller.errors import ControllerError
from controller.guard import (
    Basis,
    CellView,
    GuardLimits,
    Rejection,
    ServerView,
    TargetOrder,
    check_handover,
    check_migrate,
    check_order,
    check_reserve,
    key_of,
    merged,
)
from controller.ric.attempts import (
    Applied,
    Attempt,
    Clock,
    Decided,
    TargetState,
    record_of,
    rejected,
)
from controller.ric.decision_log import DecisionLog
from controller.ric.enforcing import Enforcing, Outcome
from controller.ric.errors import Conflict
from controller.ric.idempotence import Idempotence
from controller.ric.intents import (
    ConfigureTwinIntent,
    Intent,
    MigrateIntent,
    ReserveIntent,
    SliceIntent,
    resolve,
)
from controller.ric.rate_limits import RATE_RULES, RateLimits
from controller.ric.slices import SliceLife
from controller.ric.traces import TraceBook, loop_latency_ms
from controller.ric.twin_control import TwinControl
from controller.ric.user_decisions import UserDecisions
from controller.ric.user_intents import UserIntent
from controller.slice_life import applied

log = logging.getLogger(__name__)

REPLAYED = "replayed: guarded and recorded, not enforced"
"""The reason of every decision that passes on a replayed recording."""


@dataclass(frozen=True)
class Rehearsed:
    """A reservation was tried first; None: it may go on."""

    rejection: Rejection | None


Gate = Callable[[DecisionRequest, ReserveIntent], Awaitable[Rehearsed | None]]
"""May refuse a reservation that the guard would let pass; None: not rehearsed at all."""


class Pipeline:
    """`on_applied` is called for every confirmed decision, before its caller hears of it.

    `gate`: asked for reservations of other callers than the testbed itself.
    """

    gate: Gate | None = None
    replayed: bool = False
    """A recording is replayed: what the guard lets pass is recorded and not enforced."""

    def __init__(
        self,
        inventory: Inventory,
        enforcer: Enforcing,
        decisions: DecisionLog,
        audit: Audit,
        traces: TraceBook,
        on_applied: Callable[[Applied], None],
        limits: GuardLimits | None = None,
        clock: Clock | None = None,
        *,
        slices: SliceLife,
        users: UserDecisions,
        twins: TwinControl | None = None,
    ) -> None:
        self._inventory = inventory
        self._enforcer = enforcer
        self._twins = twins
        self._decisions = decisions
        self._audit = audit
        self._traces = traces
        self._on_applied = on_applied
        self._slices = slices
        self._users = users
        self._limits = limits or GuardLimits()
        self._clock = clock or Clock()
        self._rates = RateLimits(self._limits, self._clock)
        self._idempotence = Idempotence(decisions)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._targets: defaultdict[str, TargetState] = defaultdict(TargetState)
        self._sequence = 0

    async def decide(self, request: DecisionRequest, trusted: bool = False) -> Decided:
        """Raises `Malformed`, `NotFound`, or `Conflict` for an id that meant something else."""
        received_ns = self._clock.now_ns()
        intent = resolve(request, self._enforcer.inventory)
        if isinstance(intent, ConfigureTwinIntent):
            self._twin_control().check(intent.overrides)
        hops_ns = self._traces.hops_of(request.trace_id, request.hops_ns, received_ns)
        self._sequence += 1
        attempt = Attempt(
            request,
            request.decision_id or f"d-{uuid.uuid4().hex[:16]}",
            intent,
            {**hops_ns, "received": received_ns},
            self._sequence,
        )
        if request.dry_run:
            return await self._rehearse(attempt)
        return await self._idempotence.once(attempt, lambda a: self._carry_out(a, trusted))

    def cell_view(self, cell_id: str) -> CellView:
        live = {key_of(r): r for r in self._enforcer.reservations(cell_id)}
        capacity_kbps = self._inventory.cell(cell_id).down_kbps
        return CellView(cell_id, capacity_kbps, self._inventory.reservable_ratio, live)

    async def _carry_out(self, attempt: Attempt, trusted: bool) -> Decided:
        # Guarded before the queue too: what fails anyway must not supersede what waits.
        rejection = self._rates.over_xapp_rate(attempt, trusted) or self._guard(attempt)
        if rejection is not None:
            return self._reject(attempt, rejection)
        target = self._targets[attempt.intent.target]
        target.newest_sequence = max(target.newest_sequence, attempt.sequence)
        if self.gate is not None and not trusted and isinstance(attempt.intent, ReserveIntent):
            rehearsed = await self.gate(attempt.request, attempt.intent)
            if rehearsed is not None:
                now_ns = self._clock.now_ns()
                attempt = replace(attempt, hops_ns={**attempt.hops_ns, "rehearsed": now_ns})
                if rehearsed.rejection is not None:
                    return self._reject(attempt, rehearsed.rejection)
        async with self._locks[attempt.intent.lock]:
            rejection = self._guard(attempt) or self._rates.over_cell_rate(attempt)
            if rejection is not None:
                return self._reject(attempt, rejection)
            return await self._apply(attempt)

    def _guard(self, attempt: Attempt) -> Rejection | None:
        intent, target = attempt.intent, self._targets[attempt.intent.target]
        completed_ns = attempt.hops_ns.get("twin_completed")
        basis = Basis(completed_ns, attempt.request.valid_for_ms, self._clock.now_ns())
        order = TargetOrder(
            attempt.sequence,
            target.newest_sequence,
            completed_ns,
            target.applied_twin_completed_ns,
        )
        if isinstance(intent, ReserveIntent):
            cell = self.cell_view(intent.cell_id)
            return check_reserve(cell, intent.changes, basis, order, self._limits)
        if isinstance(intent, SliceIntent):
            return check_order(basis, order) or self._check_slice(intent)
        if isinstance(intent, MigrateIntent):
            return self._guard_migration(intent, basis, order)
        if isinstance(intent, UserIntent):
            return self._users.guard(intent, basis, order)
        if isinstance(intent, ConfigureTwinIntent):
            return None  # checked when it came; it takes nothing from anybody
        since_ms = None
        if target.applied_at_s is not None:
            since_ms = (self._clock.now_s() - target.applied_at_s) * 1000
        serving = self._enforcer.attachments()[intent.ue_id]
        return check_handover(serving, intent.cell_id, basis, order, since_ms, self._limits)

    def _check_slice(self, intent: SliceIntent) -> Rejection | None:
        try:
            applied(self._enforcer.inventory, self._enforcer.state, intent.intent)
        except ControllerError as error:
            return Rejection("admission", str(error))
        return None

    def _guard_migration(
        self, intent: MigrateIntent, basis: Basis, order: TargetOrder
    ) -> Rejection | None:
        service = next(s for s in self._inventory.services if s.name == intent.service)
        server = ServerView(
            intent.host,
            self._enforcer.used_memory_bytes(intent.host),
            self._inventory.host(intent.host).memory_bytes,
        )
        serving = self._enforcer.service_hosts()[intent.service]
        return check_migrate(service.name, service.state_bytes, serving, server, basis, order)

    async def _apply(self, attempt: Attempt) -> Decided:
        attempt = replace(attempt, hops_ns={**attempt.hops_ns, "guarded": self._clock.now_ns()})
        intent = attempt.intent
        before = self.cell_view(intent.cell_id) if isinstance(intent, ReserveIntent) else None
        try:
            outcome = await self._enforce(intent, attempt.request.xapp, dry_run=self.replayed)
        except Exception as error:  # a switch, OVSDB or Ryu failed: the xApp gets the reason
            log.exception("decision %s could not be enforced", attempt.decision_id)
            return self._reject(attempt, Rejection("enforcement", f"not enforced: {error}"))
        now_ns = self._clock.now_ns()
        attempt = replace(
            attempt,
            hops_ns={**attempt.hops_ns, "enforced": now_ns, "confirmed": now_ns, **outcome.hops_ns},
        )
        missing = [c for c in outcome.confirmations if not c.confirmed]
        if missing:
            reason = "; ".join(f"{c.switch}: {c.detail or 'no confirmation'}" for c in missing)
            rejection = Rejection("not_confirmed", f"not confirmed by {reason}")
            return self._reject(attempt, rejection, outcome)
        return self._confirm(attempt, outcome, before)

    def _confirm(self, attempt: Attempt, outcome: Outcome, before: CellView | None) -> Decided:
        is_twins = isinstance(attempt.intent, ConfigureTwinIntent)  # no packet to judge by
        record = record_of(
            attempt,
            verdict=Verdict.APPLIED,
            reason=REPLAYED if self.replayed else "",
            confirmations=list(outcome.confirmations),
            diff=dict(outcome.diff),
            effect_detail=dict(outcome.measured),
            loop_latency_ms=loop_latency_ms(attempt.hops_ns, self._inventory.centre_delay_ms),
            effect=Effect.NOT_EXERCISED if is_twins or self.replayed else Effect.PENDING,
        )
        target = self._targets[attempt.intent.target]
        target.applied_at_s = self._clock.now_s()
        if (completed_ns := attempt.hops_ns.get("twin_completed")) is not None:
            target.applied_twin_completed_ns = completed_ns
        self._keep(Decided(record))
        self._on_applied(Applied(record, attempt.intent, before))
        return Decided(self._decisions.get(record.decision_id) or record)

    async def _enforce(self, intent: Intent, xapp: str, dry_run: bool) -> Outcome:
        if isinstance(intent, SliceIntent):
            return (await self._slices.change(intent.intent, xapp, dry_run)).result
        if isinstance(intent, ReserveIntent):
            after = merged(self.cell_view(intent.cell_id).reservations, intent.changes)
            return await self._enforcer.reserve(intent.cell_id, list(after.values()), dry_run)
        if isinstance(intent, MigrateIntent):
            return await self._enforcer.migrate(intent.service, intent.host, dry_run)
        if isinstance(intent, UserIntent):
            return await self._users.enforce(intent, dry_run)
        if isinstance(intent, ConfigureTwinIntent):
            return await self._twin_control().configure(intent.overrides, dry_run)
        return await self._enforcer.handover(intent.ue_id, intent.cell_id, dry_run)

    def _twin_control(self) -> TwinControl:
        if self._twins is None:
            raise Conflict("this pipeline controls no twin models")
        return self._twins

    async def _rehearse(self, attempt: Attempt) -> Decided:
        """dry_run: the guard's verdict and the diff; nothing is changed, counted or kept."""
        # The newest of its target: it competes with no other, so none supersedes it.
        attempt = replace(attempt, sequence=self._sequence + 1)
        if (rejection := self._guard(attempt)) is not None:
            return rejected(attempt, rejection, attempt.hops_ns)
        try:
            outcome = await self._enforce(attempt.intent, attempt.request.xapp, dry_run=True)
        except Exception as error:  # as in _apply
            return rejected(attempt, Rejection("enforcement", f"no diff: {error}"), attempt.hops_ns)
        record = record_of(
            attempt,
            verdict=Verdict.APPLIED,
            reason="dry run: nothing was changed",
            diff=dict(outcome.diff),
            effect=Effect.NOT_EXERCISED,
        )
        return Decided(record)

    def _reject(
        self, attempt: Attempt, rejection: Rejection, outcome: Outcome | None = None
    ) -> Decided:
        hops_ns = {"guarded": self._clock.now_ns(), **attempt.hops_ns}
        confirmations = outcome.confirmations if outcome is not None else ()
        decided = rejected(attempt, rejection, hops_ns, confirmations)
        self._keep(decided)
        return decided

    def _keep(self, decided: Decided) -> None:
        record = decided.record
        self._decisions.add(record, decided.rule, remember=decided.rule not in RATE_RULES)
        self._audit.note(
            "decision",
            record.xapp,
            decision_id=record.decision_id,
            trace_id=record.trace_id,
            action=record.action.value,
            target=record.target,
            parameters=record.parameters,
            verdict=record.verdict.value,
            rule=decided.rule,
            reason=record.reason,
        )
