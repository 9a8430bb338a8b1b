"""What the controller repaired or refused by itself: told, counted, and shown as alarms."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

ALARM_S = 60.0
"""How long after the event it is still shown."""
_REMEMBERED = 200

Listener = Callable[[str, str, str], None]
"""(kind, where, detail)."""


class RepairKind(StrEnum):
    RECONCILED = "reconciled"
    """A switch connected anew, or Ryu or the RIC started: it was sent what it lacked."""
    NOT_RECONCILED = "could not reconcile"
    REPAIRED = "repaired"
    """Somebody changed flows, groups or meters that are ours, or added alien flows."""
    QUEUES = "queues"
    """Queues were not as intended."""
    DEBUG = "debug"
    """Flows with the cookie of debugging were seen; they are left alone."""
    WIRE_DOWN = "wire down"
    """A port between switches lost its carrier, or BFD hears nothing over its wire."""
    WIRE_UP = "wire up"
    REFUSED_CONNECTION = "refused connection"
    REFUSED_CHANGE = "refused change"
    """A switch did not take a change; all of it was undone."""


_ALARMING = frozenset(RepairKind) - {
    RepairKind.RECONCILED,
    RepairKind.DEBUG,
    RepairKind.WIRE_DOWN,
    RepairKind.WIRE_UP,
}
"""Others are shown while they last."""


@dataclass(frozen=True)
class _Alarm:
    at_s: float
    words: str


class Repairs:
    """`lines`: one a repair, newest last. `now_s`: CLOCK_MONOTONIC."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self.lines: deque[str] = deque(maxlen=_REMEMBERED)
        self.counts: Counter[str] = Counter()
        self.listener: Listener = lambda kind, where, detail: None
        self._alarms: dict[tuple[str, str], _Alarm] = {}

    def note(self, kind: RepairKind, where: str, detail: str) -> None:
        self.lines.append(f"{kind} {where}: {detail}")
        self.counts[kind.value] += 1
        if kind in _ALARMING:
            self._alarms[kind, where] = _Alarm(self._now_s(), f"{kind} {where}: {detail}")
        self.listener(kind.value, where, detail)

    def alarms(self) -> list[str]:
        """Those of the last `ALARM_S`, one for each kind and place."""
        now_s = self._now_s()
        self._alarms = {k: a for k, a in self._alarms.items() if now_s - a.at_s < ALARM_S}
        return [alarm.words for alarm in self._alarms.values()]
