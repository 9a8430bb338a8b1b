"""Slices come, change and go: one ordered change of all switches and queues.

Meters and queues that come (and rates that change) first, confirmed; then one bundle
of flows a switch, confirmed; then meters and queues that go.  What fails is undone:
every switch touched is read and brought back to the state before, and the queues too.

Queues are on their way before the rules are worked out, so that vswitchd works meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory
from controller.network_diff import Side, described, network_diff, switch_changes
from controller.outcome import EnforcementResult, confirmations_of, undone
from controller.port_queues import Applied
from controller.queues import Queues, QueuesByInterface, queue_rates
from controller.reconcile import Change
from controller.ryu_client import Answer
from controller.slice_life import Document, Planned, applied
from controller.switches import Switches

ApplyQueues = Callable[[Mapping[str, Queues]], Awaitable[Applied | str]]

Beside = Callable[[Planned], Awaitable[Confirmation | None]]


async def nothing_beside(planned: Planned) -> None:
    """For networks without hosts to tell."""


@dataclass(frozen=True)
class SliceOutcome:
    """`planned`: the state and the room its slice finds; `result`: what the switches said.

    `reserved_in`: the cells in which other reservations are held since, if it was confirmed.
    """

    planned: Planned
    result: EnforcementResult
    reserved_in: tuple[str, ...] = ()


@dataclass
class _Progress:
    """What every switch and the queues said so far, step by step."""

    answers: dict[str, Answer] = field(default_factory=dict)
    queue_words: list[str] = field(default_factory=list)
    queues_failed: bool = False
    beside: list[Confirmation] = field(default_factory=list)
    steps_ms: dict[str, float] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        switches = all(a.confirmed for a in self.answers.values())
        return switches and not self.queues_failed and all(c.confirmed for c in self.beside)

    def note(self, answers: Mapping[str, Answer]) -> None:
        for name, answer in answers.items():
            earlier = self.answers.get(name)
            words = f"{earlier.detail}; {answer.detail}" if earlier else answer.detail
            confirmed = answer.confirmed and (earlier is None or earlier.confirmed)
            self.answers[name] = Answer(confirmed, words, answer.at_ns)

    def note_queues(self, made: Applied | str) -> None:
        if isinstance(made, str):
            self.queues_failed = True
            self.queue_words.append(made)
        elif made.rows:
            self.queue_words.append(f"{made.rows} queues")

    def note_beside(self, confirmation: Confirmation | None) -> None:
        if confirmation is not None:
            self.beside.append(confirmation)

    def confirmations(self) -> list[Confirmation]:
        found = confirmations_of(self.answers)
        if self.queue_words:
            detail = "; ".join(self.queue_words)
            confirmed = not self.queues_failed
            found.append(Confirmation(switch="queues", confirmed=confirmed, detail=detail))
        return [*found, *self.beside]


@dataclass(frozen=True)
class _QueueSteps:
    """Queues of all ports before, while rules change (all that are needed), and after."""

    first: QueuesByInterface
    both: QueuesByInterface
    last: QueuesByInterface

    @classmethod
    def between(cls, switches: Switches, planned: Planned) -> _QueueSteps:
        first = queue_rates(switches.network, switches.state)
        last = queue_rates(planned.network, planned.state)
        both: QueuesByInterface = {name: {**first[name], **queues} for name, queues in last.items()}
        return cls(first, both, last)


class SliceChanges:
    """One at a time: a change of slices holds all switches."""

    def __init__(self, inventory: Inventory, switches: Switches, apply_queues: ApplyQueues) -> None:
        self._inventory = inventory
        self._switches = switches
        self._apply_queues = apply_queues
        self._left: Side | None = None

    def rehearse(self, document: Document) -> SliceOutcome:
        """The difference it would make. Raises what `slice_life.applied` raises."""
        planned = applied(self._inventory, self._switches.state, document)
        diff = network_diff(self._now(), Side.of(planned.network, planned.state))
        return SliceOutcome(planned, EnforcementResult(diff=diff))

    async def apply(self, document: Document, beside: Beside) -> SliceOutcome:
        """Make it so, confirmed, or leave everything as it was.

        `beside` is what else the change needs, done while the switches are at work.  It
        must not raise; without its confirmation the whole is undone, and its own part is
        its caller's to undo.
        Raises what `slice_life.applied` raises; what a switch refused is in the result.
        """
        asked_s = time.perf_counter()
        async with self._switches.holding(self._switches.network.switches):
            held_s = time.perf_counter()
            planned = applied(self._inventory, self._switches.state, document)
            progress = _Progress()
            progress.steps_ms["wait"] = _ms(held_s - asked_s)
            queues = _QueueSteps.between(self._switches, planned)
            coming = asyncio.ensure_future(self._queues(queues.first, queues.both))
            try:
                for _ in range(2):  # asked for in the first round of the loop, sent after it
                    await asyncio.sleep(0)
                before, after = self._now(), Side.of(planned.network, planned.state)
                changes = switch_changes(before, after)
            except BaseException:
                await asyncio.gather(coming, return_exceptions=True)
                await self._queues(queues.both, queues.first)
                raise
            progress.steps_ms["plan"] = _ms(time.perf_counter() - held_s)
            others = asyncio.ensure_future(beside(planned))
            await self._make(changes, coming, queues, progress)
            progress.note_beside(await others)
            enforced_ns = time.time_ns()
            if progress.confirmed:
                cookies = {n: p.counted_cookies() for n, p in after.programs.items()}
                self._switches.adopt(planned.network, planned.state, cookies)
                self._left = after
            result = EnforcementResult(
                progress.confirmations(),
                described(changes, before, after),
                {"enforced": enforced_ns, "confirmed": time.time_ns()},
                progress.steps_ms,
            )
        if not result.confirmed:
            result = undone(result, await self._undo(progress, queues.first))
            return SliceOutcome(planned, result)
        held = planned.state.reservations
        reserved_in = [c for c, now in held.items() if now != before.state.reservations.get(c, {})]
        return SliceOutcome(planned, result, tuple(reserved_in))

    def _now(self) -> Side:
        """What the last change left is still right, unless somebody moved or reserved since."""
        network, state = self._switches.network, self._switches.state
        left = self._left
        if left is not None and left.network is network and left.state is state:
            return left
        return Side.of(network, state)

    async def _make(
        self,
        changes: Mapping[str, Change],
        coming: Awaitable[Applied | str],
        queues: _QueueSteps,
        progress: _Progress,
    ) -> None:
        """Three steps; the first that fails is the last. `coming`: the first step's queues."""
        parts_of = {n: c.in_order() for n, c in changes.items()}
        steps: tuple[tuple[str, Callable[[], Awaitable[Applied | str]]], ...] = (
            ("meters and queues come", lambda: coming),
            ("flows", lambda: self._queues(queues.both, queues.both)),
            ("meters and queues go", lambda: self._queues(queues.both, queues.last)),
        )
        for part, (words, set_queues) in enumerate(steps):
            started_s = time.perf_counter()
            parts = {n: c[part] for n, c in parts_of.items() if not c[part].is_empty}
            answers, made = await asyncio.gather(self._switches.send(parts, "slices"), set_queues())
            progress.note(answers)
            progress.note_queues(made)
            progress.steps_ms[words] = _ms(time.perf_counter() - started_s)
            if not progress.confirmed:
                return

    async def _queues(self, old: QueuesByInterface, new: QueuesByInterface) -> Applied | str:
        changed = {name: queues for name, queues in new.items() if queues != old[name]}
        if not changed:
            return Applied(0, time.time_ns())
        return await self._apply_queues(changed)

    async def _undo(
        self, progress: _Progress, queues_before: QueuesByInterface
    ) -> list[Confirmation]:
        """The state is still the one before: bring back to it what was touched."""
        touched = list(progress.answers)
        reconciled = await asyncio.gather(*map(self._switches.reconcile, touched))
        found = [done.confirmation for done in reconciled]
        made = await self._apply_queues(queues_before)
        if isinstance(made, str):
            found.append(Confirmation(switch="queues", confirmed=False, detail=made))
        return found


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
