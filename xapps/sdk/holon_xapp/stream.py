"""Lines out of a chunked HTTP answer, each as soon as its newline is here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from holon_xapp.errors import EventError

LINE_BYTES_MAX = 16 * 1024 * 1024


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines without their newline, empty ones left out; an unfinished last one is lost."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > LINE_BYTES_MAX:
            raise EventError(f"a line of the stream is longer than {LINE_BYTES_MAX} bytes")


@dataclass(slots=True)
class Backoff:
    """Waits before a reconnection: doubling from `first_s` to `last_s`."""

    first_s: float = 0.1
    last_s: float = 2.0
    _next_s: float = 0.0

    def take_s(self) -> float:
        wait_s = self._next_s or self.first_s
        self._next_s = min(2 * wait_s, self.last_s)
        return wait_s

    def reset(self) -> None:
        """After a success."""
        self._next_s = 0.0
