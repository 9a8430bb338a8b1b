"""The state of a task server: one block of memory that knows which pages changed.

Page 0 holds the total, then one slot a session (counter and a digest chained over
all its requests); the rest is working memory that requests write into.  All of a
server's state is in here, so a copy of these bytes is the server.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

PAGE_BYTES = 4096
DIGEST_BYTES = 16
_SLOT = struct.Struct(f"<Q{DIGEST_BYTES}s")
_SLOT_BYTES = 32
_TOTAL = struct.Struct("<Q")


class Image:
    """`state_bytes` is rounded up to whole pages. Raises ValueError for too many sessions."""

    def __init__(self, state_bytes: int, sessions: int, pages_per_request: int) -> None:
        self.page_count = -(-state_bytes // PAGE_BYTES)
        self._working_page = 1 + -(-sessions * _SLOT_BYTES // PAGE_BYTES)
        if self._working_page >= self.page_count:
            raise ValueError(f"{state_bytes} bytes of state are too few for {sessions} sessions")
        self.memory = bytearray(self.page_count * PAGE_BYTES)
        self._sessions = sessions
        self._pages_per_request = pages_per_request
        self._dirty = bytearray(self.page_count)
        """1: changed since it was last taken. No array library: starting a server must be cheap."""

    @property
    def served(self) -> int:
        """Requests that this state remembers, in whichever server it was."""
        total: int = _TOTAL.unpack_from(self.memory)[0]
        return total

    def serve(self, session: int, request_id: int) -> tuple[int, bytes]:
        """One request's change of state; (the session's counter, its digest).

        Raises `IndexError` for a session that does not exist.
        """
        if not 0 <= session < self._sessions:
            raise IndexError(f"session {session} outside 0-{self._sessions - 1}")
        at = PAGE_BYTES + session * _SLOT_BYTES
        counter, before = _SLOT.unpack_from(self.memory, at)
        content = before + request_id.to_bytes(8, "little")
        digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
        _SLOT.pack_into(self.memory, at, counter + 1, digest)
        _TOTAL.pack_into(self.memory, 0, self.served + 1)
        self._dirty[0] = self._dirty[at // PAGE_BYTES] = 1
        first = int.from_bytes(digest[:8], "little")
        span = self.page_count - self._working_page
        for step in range(self._pages_per_request):
            page = self._working_page + (first + step) % span
            self.memory[page * PAGE_BYTES : page * PAGE_BYTES + DIGEST_BYTES] = digest
            self._dirty[page] = 1
        return counter + 1, digest

    # -- moving -----------------------------------------------------------------

    def mark_all(self) -> None:
        self._dirty[:] = b"\1" * self.page_count

    @property
    def dirty_pages(self) -> int:
        return self._dirty.count(1)

    def take_dirty(self) -> Iterator[tuple[int, int]]:
        """(first page, count) of each run of changed pages; they count as clean from now on."""
        taken, self._dirty = self._dirty, bytearray(self.page_count)
        first = taken.find(1)
        while first >= 0:
            end = taken.find(0, first)
            end = self.page_count if end < 0 else end
            yield first, end - first
            first = taken.find(1, end)

    def write(self, first_page: int, content: bytes) -> None:
        """What another server sent. Raises `IndexError` for pages that are not there."""
        at = first_page * PAGE_BYTES
        if len(content) % PAGE_BYTES or at + len(content) > len(self.memory):
            raise IndexError(f"{len(content)} bytes at page {first_page} of {self.page_count}")
        self.memory[at : at + len(content)] = content

    def digest(self) -> bytes:
        return hashlib.sha256(self.memory).digest()
