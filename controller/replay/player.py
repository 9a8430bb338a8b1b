"""When what happens: a recording's windows, handovers and decisions in their order and pace.

Times in events are those of the replay, or every xApp would call them stale; intervals before
the arrival (completed, sent, received) are as recorded, at any speed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from typing import Any

from controller.contracts.decisions import DecisionRecord, Verdict
from controller.replay.network import RecordedNetwork
from controller.replay.recording import Recording, Window
from controller.ric.observation import Centre


@dataclass
class RecordedTime:
    """The recording's own time: what rate limits go by, so that they are the same each time."""

    at_ns: int = 0

    def now_s(self) -> float:
        return self.at_ns / 1e9


@dataclass(frozen=True)
class Handover:
    ue_id: str
    cell_id: str


Happening = tuple[int, Window | Handover | DecisionRecord]


def happenings(recording: Recording, replayed: Iterable[str]) -> Iterator[Happening]:
    """In their order; decisions of xApps that are replayed will be made anew."""
    own = set(replayed)
    windows: list[Happening] = [(w.received_at_ns, w) for w in recording.windows]
    moves: list[Happening] = [(at, Handover(ue, cell)) for at, ue, cell in recording.handovers]
    others: list[Happening] = [
        (d.hops_ns.get("confirmed") or d.hops_ns["received"], d)
        for d in recording.decisions
        if d.xapp not in own
    ]
    in_order = [sorted(part, key=lambda h: h[0]) for part in (moves, others, windows)]
    return merge(*in_order, key=lambda h: h[0])


@dataclass
class Player:
    """Feeds the centre's twins and stream; `windows` counts what it has shown.

    `done`: awaited before something is shown, False when it was not waited for to the end.
    """

    centre: Centre
    network: RecordedNetwork
    speed: float
    done: Callable[[], Awaitable[bool]]
    clock: RecordedTime = field(default_factory=RecordedTime)
    windows: int = 0
    unfinished: int = 0
    """Shown while an xApp was still busy with what came before."""
    _rates: dict[str, Any] = field(default_factory=dict)

    async def play(self, course: Iterable[Happening]) -> None:
        begun_s: float | None = None
        first_ns = 0
        for at_ns, happening in course:
            if begun_s is None:
                begun_s, first_ns = time.monotonic(), at_ns
            self.unfinished += not await self.done()
            due_s = begun_s + (at_ns - first_ns) / 1e9 / self.speed
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self.clock.at_ns = at_ns
            self.show(happening, time.time_ns())
        await self.done()

    def show(self, happening: Window | Handover | DecisionRecord, now_ns: int) -> None:
        if isinstance(happening, Handover):
            self.network.attach(happening.ue_id, happening.cell_id)
        elif isinstance(happening, DecisionRecord):
            document = happening.model_dump(mode="json")
            event = {"kind": "decision", "id": happening.decision_id, **document}
            self.centre.stream.publish(event, now_ns)
        else:
            self._show_window(happening, now_ns)

    def _show_window(self, window: Window, now_ns: int) -> None:
        cell_id = window.aggregate.cell_id
        shift_ns = now_ns - window.received_at_ns
        aggregate = window.aggregate.model_copy(
            update={
                "completed_at_ns": window.aggregate.completed_at_ns + shift_ns,
                "sent_at_ns": window.aggregate.sent_at_ns + shift_ns,
            }
        )
        self.network.hold(cell_id, window.reservations)
        level_two = self.centre.level_two
        level_two.apply_reservations(cell_id, list(window.reservations), now_ns)
        if self._rates.get(cell_id) != window.rates:
            self._rates[cell_id] = window.rates
            level_two.apply_rates(window.rates, aggregate.period_ms, now_ns)
        self.centre.accept(aggregate, now_ns)
        self.windows += 1


def likeness(
    recorded: Iterable[DecisionRecord], replayed: Iterable[DecisionRecord]
) -> Mapping[str, int]:
    """How many decisions on the same twin data are the same in both, and how many in one only.

    Compared is what was asked for: action, target, parameters.  The order does not count.
    """
    asked = [
        {(d.trace_id, d.action.value, repr(d.target), repr(d.parameters)) for d in found}
        for found in (recorded, replayed)
    ]
    return {
        "same": len(asked[0] & asked[1]),
        "only_recorded": len(asked[0] - asked[1]),
        "only_replayed": len(asked[1] - asked[0]),
    }


def verdicts(records: Iterable[DecisionRecord]) -> dict[str, int]:
    found = {verdict.value: 0 for verdict in Verdict}
    for record in records:
        found[record.verdict.value] += 1
    return found
