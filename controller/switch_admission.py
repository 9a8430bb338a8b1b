"""Who may speak OpenFlow to this controller, and how well: a guard around each socket.

Ryu reads from the guard instead of from the socket.  The guard hands over whole
messages that passed `openflow_frames`, ends a connection that does not say which
switch it is in time, and lets each switch of the run in once: a second
connection of the same datapath id, or one nobody knows, is refused while the
original lives.  Imports neither Ryu nor eventlet: the socket given is theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from controller.openflow_frames import (
    HEADER_BYTES,
    MalformedFrame,
    check,
    datapath_id,
    length_of,
)
from controller.pacing import Pace

HANDSHAKE_S = 4.0
"""From the connection to the features reply; a switch of this machine takes milliseconds."""
MOST_STRANGERS = 64
"""Connections that have not said who they are; more are closed at once."""
_READ_BYTES = 1 << 16


class Refused(Exception):
    """Why a connection ends."""


class Admission:
    """One per controller. `known`: datapath ids of the run's switches."""

    def __init__(
        self,
        known: Collection[int],
        now_s: Callable[[], float],
        pace: Pace,
        log: Callable[[str], None],
    ) -> None:
        self._known = frozenset(known)
        self.now_s = now_s
        self.pace = pace
        self._log = log
        self._admitted: dict[int, GuardedSocket] = {}
        self._strangers: set[GuardedSocket] = set()
        self.refused: Counter[str] = Counter()
        """Connections ended, by why."""
        self.last_refusal = ""

    def guard(self, sock: Any, address: object) -> GuardedSocket:
        """The socket for Ryu to use instead of `sock`."""
        guarded = GuardedSocket(sock, self, address)
        self._strangers.add(guarded)
        if len(self._strangers) > MOST_STRANGERS:
            self.refuse(guarded, "strangers", f"{MOST_STRANGERS} connections are unknown already")
        return guarded

    def admit(self, guarded: GuardedSocket, dpid: int) -> None:
        """Raises `Refused`."""
        if dpid not in self._known:
            raise Refused("unknown_switch", f"datapath id {dpid} is no switch of this run")
        holder = self._admitted.get(dpid)
        if holder is not None and holder is not guarded:
            raise Refused("duplicate_switch", f"datapath id {dpid} is connected already")
        self._admitted[dpid] = guarded
        self._strangers.discard(guarded)

    def is_stranger(self, guarded: GuardedSocket) -> bool:
        return guarded in self._strangers

    def refuse(self, guarded: GuardedSocket, reason: str, words: str) -> None:
        self.refused[reason] += 1
        self.last_refusal = f"connection from {guarded.address}: {words}"
        self._log(f"refused a {self.last_refusal}")
        guarded.ended = True

    def forget(self, guarded: GuardedSocket) -> None:
        """It is closed; its datapath id may connect again."""
        self._strangers.discard(guarded)
        for dpid in [d for d, g in self._admitted.items() if g is guarded]:
            del self._admitted[dpid]


class GuardedSocket:
    """Reads like a socket, in whole checked messages; b"" (the end) after a refusal."""

    def __init__(self, sock: Any, admission: Admission, address: object) -> None:
        self._socket = sock
        self._admission = admission
        self.address = address
        self.ended = False
        self._since_s = admission.now_s()
        self._unchecked = bytearray()
        self._checked = bytearray()

    def recv(self, size: int) -> bytes:
        self._admission.pace.breathe()  # many small messages are as long as a large one
        while not self._checked:
            if self.ended or not self._read():
                return b""
        taken = bytes(self._checked[:size])
        del self._checked[:size]
        return taken

    def _read(self) -> bool:
        """One read of the socket; False when the conversation is over."""
        self._admission.pace.pause()  # one that talks without end must not silence the others
        try:
            received = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            self._require_identity()
            if self.ended:
                return False
            raise
        self._unchecked += received
        try:
            self._take_whole_messages()
        except (MalformedFrame, Refused) as error:
            reason = error.args[0] if isinstance(error, Refused) else "malformed"
            self._admission.refuse(self, reason, str(error.args[-1]))
        self._require_identity()
        return bool(received) and not self.ended

    def _require_identity(self) -> None:
        late = self._admission.now_s() - self._since_s > HANDSHAKE_S
        if late and not self.ended and self._admission.is_stranger(self):
            words = f"did not say which switch it is within {HANDSHAKE_S:g} s"
            self._admission.refuse(self, "silent", words)

    def _take_whole_messages(self) -> None:
        buffer = self._unchecked
        while len(buffer) >= HEADER_BYTES:
            length = length_of(buffer[:HEADER_BYTES])
            if len(buffer) < length:
                return
            frame = bytes(buffer[:length])
            check(frame)
            if (dpid := datapath_id(frame)) is not None:
                self._admission.admit(self, dpid)
            self._checked += frame
            del buffer[:length]

    def close(self) -> None:
        self._admission.forget(self)
        self._socket.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
