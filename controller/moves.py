"""Moving users between cells: a handover's phases, sent in order, undone when one fails."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from controller.contracts.inventory import Cell
from controller.errors import EnforcementError, UnknownTargetError
from controller.handover import HandoverMode, HandoverPlan, Phase, plan
from controller.network_state import NetworkState
from controller.network_view import Network
from controller.outcome import EnforcementResult, confirmations_of, undone
from controller.reconcile import Change, difference
from controller.rules import compile_attachments
from controller.ryu_client import Answer
from controller.switches import Switches


class Moves:
    """One handover of a user at a time; different users move at once.

    Phases of different users touch different rules, and each phase holds the
    switches it changes.
    """

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._user_locks = {ue_id: asyncio.Lock() for ue_id in switches.network.users}
        self._clearing: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []
        """Clearings that were not confirmed, newest last; the watch finishes them."""

    @property
    def _network(self) -> Network:
        return self._switches.network

    @property
    def _state(self) -> NetworkState:
        return self._switches.state

    async def handover(
        self,
        ue_id: str,
        target: Cell,
        dry_run: bool = False,
        mode: HandoverMode | None = None,
    ) -> EnforcementResult:
        """Move a user; returns once the new cell serves it, confirmed.

        `mode` None: the scenario's. The source's rules are cleared afterwards, when
        what was under way has drained (`settled` waits for that). On a failure the
        user stays where it was.  Raises `UnknownTargetError`, `EnforcementError`.
        """
        if ue_id not in self._network.users:
            raise UnknownTargetError(f"unknown user {ue_id!r}")
        config = self._network.users[ue_id].handover or self._network.inventory.handover
        chosen = mode or config.kind
        interruption_ms = config.interruption_ms if chosen == config.kind else 0
        if dry_run:
            steps = self._plan(ue_id, target, chosen, interruption_ms)
            return EnforcementResult(diff=self._handover_diff(ue_id, steps))
        lock = self._user_locks[ue_id]
        await lock.acquire()
        try:
            steps = self._plan(ue_id, target, chosen, interruption_ms)
            result = await self._switch_over(ue_id, steps)
        except BaseException:
            lock.release()
            raise
        phases = steps.clearing if result.confirmed else ()
        task = asyncio.create_task(self._clear(ue_id, phases, lock))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)
        return result

    def _plan(
        self, ue_id: str, target: Cell, mode: HandoverMode, interruption_ms: int
    ) -> HandoverPlan:
        source = self._state.serving_cell(ue_id)
        if source == target.cell_id:
            raise EnforcementError(f"user {ue_id} is served by cell {source} already")
        return plan(self._network, source, target.cell_id, mode, interruption_ms)

    async def _switch_over(self, ue_id: str, steps: HandoverPlan) -> EnforcementResult:
        before, diff = self._state.attachments[ue_id], self._handover_diff(ue_id, steps)
        answers: dict[str, Answer] = {}
        broken_s = 0.0
        for index, phase in enumerate(steps.switching):
            if phase.after_break_ms:
                left_s = broken_s + phase.after_break_ms / 1000 - time.monotonic()
                await asyncio.sleep(max(0.0, left_s))
            found, sent_s = await self._enter(ue_id, phase)
            if index == 0:
                broken_s = sent_s
            answers = _merged(answers, found)
            if not all(a.confirmed for a in found.values()):
                self._switches.state = self._state.attached(ue_id, before)
                undoing = await asyncio.gather(*map(self._switches.reconcile, answers))
                words = [done.confirmation for done in undoing]
                return undone(EnforcementResult(confirmations_of(answers), diff), words)
        enforced_ns = max(a.at_ns for a in answers.values())
        hops_ns = {"enforced": enforced_ns, "confirmed": time.time_ns()}
        return EnforcementResult(confirmations_of(answers), diff, hops_ns)

    async def _enter(self, ue_id: str, phase: Phase) -> tuple[dict[str, Answer], float]:
        """One phase, its groups in order; stops at the first group that fails.

        Returns the answers, and when (monotonic, s) the first group was sent.
        """
        await asyncio.sleep(phase.wait_ms / 1000)
        answers: dict[str, Answer] = {}
        sent_s = 0.0
        async with self._switches.holding(itertools.chain(*phase.steps)):
            before = self._state
            after = before.attached(ue_id, phase.attachment)
            for group in phase.steps:
                changes = {name: self._moved(name, before, after) for name in group}
                sent_s = sent_s or time.monotonic()
                answers.update(await self._switches.send(changes))
                if not all(a.confirmed for a in answers.values()):
                    return answers, sent_s
            self._switches.state = self._state.attached(ue_id, phase.attachment)
        return answers, sent_s

    async def _clear(self, ue_id: str, phases: Sequence[Phase], lock: asyncio.Lock) -> None:
        """A phase that fails leaves its switches to the watch, which knows the new state."""
        try:
            for phase in phases:
                answers, _ = await self._enter(ue_id, phase)
                self._switches.state = self._state.attached(ue_id, phase.attachment)
                for name, answer in answers.items():
                    if not answer.confirmed:
                        self.failures.append(f"clearing {name} after a handover: {answer.detail}")
        finally:
            lock.release()

    async def settled(self) -> None:
        """Wait until no handover is clearing up."""
        await asyncio.gather(*self._clearing)

    def _moved(self, switch: str, before: NetworkState, after: NetworkState) -> Change:
        return difference(
            compile_attachments(self._network, before, switch),
            compile_attachments(self._network, after, switch),
        )

    def _handover_diff(self, ue_id: str, steps: HandoverPlan) -> dict[str, Any]:
        """From now to the end, all phases together."""
        after = self._state.attached(ue_id, steps.final)
        phases = (*steps.switching, *steps.clearing)
        names = dict.fromkeys(n for p in phases for group in p.steps for n in group)
        return Change.diff([self._moved(n, self._state, after) for n in names], {})

    async def stop(self) -> None:
        for task in self._clearing:
            task.cancel()
        await asyncio.gather(*self._clearing, return_exceptions=True)


def _merged(earlier: dict[str, Answer], later: dict[str, Answer]) -> dict[str, Answer]:
    """A switch that takes part in several phases has said all of it."""
    found = dict(earlier)
    for name, answer in later.items():
        words = f"{earlier[name].detail}; {answer.detail}" if name in earlier else answer.detail
        found[name] = Answer(answer.confirmed, words, answer.at_ns)
    return found
