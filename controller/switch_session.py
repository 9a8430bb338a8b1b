"""One conversation with one switch: send a batch, collect every answer up to its barrier.

A switch handles a connection's messages in order, so when the barrier's reply is
here, so are all answers and errors of what was sent before it.  Knows nothing of
slices and imports neither Ryu nor eventlet: `Event` and `Pace` are given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from controller.pacing import Pace

TIMEOUT_S = 5.0
"""Without a word of the switch; a long answer may take longer as a whole."""
_CHUNK = 256
"""Messages per write: even, because a pair is never split."""

Message = Any


class Event(Protocol):
    def set(self) -> None: ...
    def wait(self, timeout: float) -> Any: ...


class ExchangeFailed(Exception):
    """The switch answered with errors, or not in time."""


Reader = Callable[[Message], Any]


class Exchange:
    """Messages on their way; `answers[i]` are the replies to message i, as `readers[i]` made them.

    A reader takes what is wanted out of a reply at once: thousands of Ryu's flow entries
    are hundreds of megabytes.
    """

    def __init__(self, count: int, done: Event, readers: Mapping[int, Reader]) -> None:
        self._readers = readers
        self.answers: list[list[Message]] = [[] for _ in range(count)]
        self.errors: list[str] = []
        self.done = done
        self.lost = False
        self.heard = 0
        """Answers and errors so far."""

    def take(self, index: int, message: Message) -> None:
        self.heard += 1
        reader = self._readers.get(index)
        self.answers[index].append(message if reader is None else reader(message))


class SwitchSession:
    """A connected switch. One per connection: a reconnect makes a new one."""

    def __init__(
        self,
        datapath: Any,
        number: int,
        barrier: Callable[[Any], Message],
        new_event: Callable[[], Event],
        pace: Pace,
    ) -> None:
        self.datapath = datapath
        self.number = number
        """Counts connections, so that a reconnect is noticed."""
        self._barrier = barrier
        self._new_event = new_event
        self.pace = pace
        self._waiting: dict[int, tuple[Exchange, int]] = {}

    def exchange(
        self,
        messages: Iterable[Message],
        timeout_s: float = TIMEOUT_S,
        readers: Mapping[int, Reader] = MappingProxyType({}),
    ) -> list[list[Any]]:
        """Replies to each message, taken by the reader of its place if it has one.

        Raises `ExchangeFailed` with the switch's reasons.
        """
        batch = [*messages, self._barrier(self.datapath)]
        exchange = Exchange(len(batch), self._new_event(), readers)
        xids = []
        for index, message in self.pace.through(enumerate(batch)):
            xids.append(self.datapath.set_xid(message))
            self._waiting[xids[-1]] = exchange, index
        try:
            self._send(batch)
            _await(exchange, timeout_s)
        finally:
            for xid in self.pace.through(xids):
                self._waiting.pop(xid, None)
        if exchange.errors:
            raise ExchangeFailed("; ".join(dict.fromkeys(exchange.errors)))
        if exchange.lost:
            raise ExchangeFailed("the connection was lost")
        if not exchange.answers[-1]:
            raise ExchangeFailed(f"no barrier reply within {timeout_s} s")
        return exchange.answers[:-1]

    def _send(self, batch: Sequence[Message]) -> None:
        """Each chunk in one write, so that the switch finds it whole."""
        for start in range(0, len(batch), _CHUNK):
            if start:
                self.pace.pause()
            buffer = bytearray()
            for message in self.pace.through(batch[start : start + _CHUNK]):
                message.serialize()
                buffer += message.buf
            if not self.datapath.send(bytes(buffer)):
                raise ExchangeFailed("the connection is closed")

    def deliver(self, xid: int, message: Message) -> None:
        """A reply from the switch; the barrier's ends the exchange."""
        exchange, index = self._waiting.get(xid, (None, 0))
        if exchange is None:
            return
        exchange.take(index, message)
        if index == len(exchange.answers) - 1:
            exchange.done.set()

    def fail(self, xid: int, reason: str) -> None:
        """An error from the switch; the exchange still waits for its barrier."""
        exchange, index = self._waiting.get(xid, (None, 0))
        if exchange is None:
            return
        exchange.heard += 1
        exchange.errors.append(reason)
        if index == len(exchange.answers) - 1:
            exchange.done.set()

    def lose(self) -> None:
        """The connection is gone."""
        for exchange, _ in list(self._waiting.values()):
            exchange.lost = True
            exchange.done.set()


def _await(exchange: Exchange, timeout_s: float) -> None:
    """Until its end, or until the switch has said nothing for `timeout_s`."""
    heard = -1
    while heard != exchange.heard:
        heard = exchange.heard
        if exchange.done.wait(timeout_s):
            return
