"""Open vSwitch's watch over wires (BFD), held while vswitchd is known to stand still.

A session ends after 30 ms of silence, whoever is silent.  While vswitchd takes its whole
configuration over again (its database came back, a bridge is made anew), it sends
and hears nothing for longer than that: every session would end at once, and packets
would take detours on wires that have not greeted again.  So the state of each wire is
held as it was, and BFD is asked again once all held sessions are up.
docs/decisions/0050-vswitchd-never-loses-its-database.md
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection

LONGEST_HOLD_S = 12.0
"""Then BFD counts again, whatever it says: a wire may have failed meanwhile."""
SHORTEST_HOLD_S = 1.0
"""What is held for has to happen first."""
_SESSION = re.compile(r"^---- (\S+) ----$(.*?)(?=^----|\Z)", re.M | re.S)
_UP = "Local Session State: up"


def sessions(bfd_show: str) -> dict[str, bool]:
    """Interface -> is its session up? From the output of `ovs-appctl bfd/show`."""
    return {found[1]: _UP in found[2] for found in _SESSION.finditer(bfd_show)}


class WireWatch:
    """`appctl` runs ovs-appctl at vswitchd; `now_s`: CLOCK_MONOTONIC."""

    def __init__(
        self, appctl: Callable[..., str], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._appctl = appctl
        self._now_s = now_s
        self._lock = threading.Lock()
        self._held: frozenset[str] | None = None
        self._since_s = 0.0
        self._ready: Callable[[], bool] = lambda: True

    @property
    def is_held(self) -> bool:
        return self._held is not None

    def hold(self, dead: Collection[str] = (), ready: Callable[[], bool] = lambda: True) -> None:
        """Wires that are up count as up from now on, `dead` ones as down, until `resume`; these
        too when they are down already, for their sessions may come up before they lead anywhere.

        `ready`: what else has to be so before BFD counts again.
        """
        with self._lock:
            now = sessions(self._appctl("bfd/show"))
            if not now:
                return
            for name, is_up in now.items():
                if name in dead or is_up:
                    self._appctl("bfd/set-forwarding", name, "false" if name in dead else "true")
            self._held = frozenset(name for name, is_up in now.items() if is_up)
            self._since_s, self._ready = self._now_s(), ready

    def resume(self) -> None:
        """If all held sessions are up again, or it takes too long, BFD counts again."""
        with self._lock:
            held_s = self._now_s() - self._since_s
            if self._held is None or held_s < SHORTEST_HOLD_S:
                return
            now = sessions(self._appctl("bfd/show"))
            settled = all(now.get(name, False) for name in self._held) and self._ready()
            if settled or held_s > LONGEST_HOLD_S:
                self._appctl("bfd/set-forwarding", "normal")
                self._held = None
