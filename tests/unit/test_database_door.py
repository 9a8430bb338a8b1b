"""The door to the database: open while it restarts, and shut once when another is there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from topologies.database_door import DatabaseDoor


class Database:
    """Answers everything that is said to it with its name; `kill` ends it with all it serves."""

    def __init__(self, path: Path, name: bytes) -> None:
        path.unlink(missing_ok=True)
        self._name = name
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._served: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._served.append(client)
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(1024):
                client.sendall(self._name)

    def kill(self) -> None:
        for opened in (self._listener, *self._served):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    return tmp_path / "db.sock"


@pytest.fixture
def client(tmp_path: Path, inside: Path) -> Iterator[socket.socket]:
    door = DatabaseDoor(tmp_path / "door.sock", inside)
    door.open()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.settimeout(5.0)
        opened.connect(str(tmp_path / "door.sock"))
        yield opened
    door.close()


def test_it_leads_to_the_database_that_comes_later(client: socket.socket, inside: Path) -> None:
    client.sendall(b"who?")
    database = Database(inside, b"first")
    assert client.recv(16) == b"first"
    database.kill()


def test_it_stays_open_without_a_database_and_ends_when_another_answers(
    client: socket.socket, inside: Path
) -> None:
    first = Database(inside, b"first")
    client.sendall(b"who?")
    assert client.recv(16) == b"first"
    first.kill()
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(16)
    client.settimeout(5.0)
    second = Database(inside, b"second")
    assert client.recv(16) == b"", "it was not told to ask anew"
    second.kill()
