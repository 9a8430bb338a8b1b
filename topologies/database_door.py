"""The door through which vswitchd reaches its database: stays open while the database restarts.

Without a connection that holds its lock, vswitchd stops its main loop, which in
userspace mode is also what forwards; and it waits a second before it connects again.
So it connects to this door instead, which leads to ovsdb-server's socket: while that is
gone the connection stays, and only when the next ovsdb-server answers it is ended, for
vswitchd to ask anew at once (it must have been given several doors to try).  Carries
bytes and understands none.  docs/decisions/0050-vswitchd-never-loses-its-database.md
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

_CHUNK_BYTES = 1 << 16
_RETRY_S = 0.005
_LOOK_S = 0.2
"""How soon a stopped door notices that it is."""
_GREETING = b'{"method":"echo","params":[],"id":"door"}'


class DatabaseDoor:
    """`door`: where vswitchd connects; `inside`: ovsdb-server's socket."""

    def __init__(self, door: Path, inside: Path) -> None:
        self._door, self._inside = door, inside
        self._stopping = threading.Event()

    def open(self) -> None:
        self._door.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._door))
        listener.listen()
        listener.settimeout(_LOOK_S)
        self._start(self._serve, listener)

    def close(self) -> None:
        """Conversations end by themselves, with the processes at both sides or soon after."""
        self._stopping.set()

    def _start(self, work: Callable[[socket.socket], None], on: socket.socket) -> None:
        threading.Thread(target=work, args=(on,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = listener.accept()
                    client.settimeout(None)
                    self._start(self._lead, client)

    def _lead(self, client: socket.socket) -> None:
        """One conversation: until the client ends it, or another database is there."""
        with client:
            database = self._reach(client)
            if database is None:
                return
            with database:
                is_client_gone = self._carry(client, database)
            if not is_client_gone:
                self._await_answer(client)

    def _await_answer(self, client: socket.socket) -> None:
        """A server that is dying still takes connections; one that answers lives."""
        while (database := self._reach(client)) is not None:
            with database, contextlib.suppress(OSError):
                database.settimeout(1.0)
                database.sendall(_GREETING)
                if database.recv(_CHUNK_BYTES):
                    return
            time.sleep(_RETRY_S)

    def _reach(self, client: socket.socket) -> socket.socket | None:
        """The database, once it answers; None when the client is gone before."""
        while not self._stopping.is_set():
            database = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                database.connect(str(self._inside))
                return database
            except OSError:
                database.close()
            if _has_ended(client):
                return None
            time.sleep(_RETRY_S)
        return None

    def _carry(self, client: socket.socket, database: socket.socket) -> bool:
        """Did the client end it?"""
        other = {client: database, database: client}
        while not self._stopping.is_set():
            for ready in select.select([client, database], [], [], _LOOK_S)[0]:
                try:
                    chunk = ready.recv(_CHUNK_BYTES)
                except OSError:
                    chunk = b""
                if not chunk:
                    return ready is client
                try:
                    other[ready].sendall(chunk)
                except OSError:
                    return ready is database
        return True


def _has_ended(client: socket.socket) -> bool:
    """Whatever it said meanwhile stays unread."""
    if not select.select([client], [], [], 0)[0]:
        return False
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except OSError:
        return True
