"""Wires with delay or loss in userspace: two taps joined by a wirefilter.

Three small processes a wire, so only links that ask for delay or loss have one.
The rate of such a link is not the wire's work: the queue trees at both ends do it.
They are joined by pipes that keep frames whole, not by dpipe: wirefilter mixes up
frames of both directions that it had to read in parts
(docs/decisions/0090-wires-of-whole-frames.md).
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from topologies.errors import WireError
from topologies.manifest import RUN_ID_VARIABLE, Manifest

_ANSWER_TIMEOUT_S = 2.0
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
"""A page a frame: room for 256 frames."""


@dataclass(frozen=True)
class WireEnd:
    """A tap that exists already; `pid` lives in its namespace, None: ours."""

    interface: str
    pid: int | None = None

    @property
    def plug(self) -> list[str]:
        enter = [] if self.pid is None else ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]
        return [*enter, "vde_plug", f"tap://{self.interface}"]


class Wire:
    """One running wire. Delay and loss are each way and may change while it runs."""

    def __init__(
        self, left: WireEnd, right: WireEnd, delay_ms: float, loss_ratio: float, folder: Path
    ) -> None:
        self.left, self.right = left, right
        self.delay_ms, self.loss_ratio = delay_ms, loss_ratio
        self._socket_path = folder / f"{left.interface}.wire"
        self._log = folder / f"{left.interface}.wire.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, run_id: str, manifest: Manifest) -> None:
        """Start its processes; returns at once, `await_ready` tells that it carries."""
        from_left, to_filter = _pipe_of_frames()
        from_filter, to_right = _pipe_of_frames()
        from_right, to_filter_back = _pipe_of_frames()
        from_filter_back, to_left = _pipe_of_frames()
        ends = (
            from_left, to_filter, from_filter, to_right,
            from_right, to_filter_back, from_filter_back, to_left,
        )  # fmt: skip
        filter_command = [
            *("wirefilter", "-M", str(self._socket_path)),
            *("-d", _milliseconds(self.delay_ms), "-l", _percent(self.loss_ratio)),
        ]
        sides = {"ALTERNATE_STDIN": str(from_right), "ALTERNATE_STDOUT": str(to_right)}
        environment = {**os.environ, RUN_ID_VARIABLE: run_id, **sides}
        try:
            with self._log.open("ab") as log:
                for command, source, sink, kept in (
                    (filter_command, from_left, to_left, (from_right, to_right)),
                    (self.left.plug, from_filter_back, to_filter, ()),
                    (self.right.plug, from_filter, to_filter_back, ()),
                ):
                    started = subprocess.Popen(
                        command,
                        stdin=source,
                        stdout=sink,
                        stderr=log,
                        pass_fds=kept,
                        env=environment,
                        process_group=0,
                    )
                    self._processes.append(started)
                    manifest.record_process(started.pid, f"wire {self.left.interface}")
        finally:
            for end in ends:
                os.close(end)

    @property
    def filter_pid(self) -> int:
        return self._processes[0].pid

    @property
    def alive(self) -> bool:
        return bool(self._processes) and all(p.poll() is None for p in self._processes)

    def require_alive(self) -> None:
        if not self.alive:
            words = self._log.read_text(errors="replace").strip() or "no message"
            raise WireError(f"wire {self.left.interface} ended: {words.splitlines()[-1]}")

    @property
    def ready(self) -> bool:
        """Does its filter answer? Raises `WireError` when it has ended."""
        self.require_alive()
        return self._socket_path.exists()

    def set_delay(self, delay_ms: float) -> None:
        self._command(f"delay {_milliseconds(delay_ms)}")
        self.delay_ms = delay_ms

    def set_loss(self, loss_ratio: float) -> None:
        self._command(f"loss {_percent(loss_ratio)}")
        self.loss_ratio = loss_ratio

    def _command(self, words: str) -> None:
        """Speak to the management socket; it greets, then ends each answer with its prompt."""
        self.require_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_TIMEOUT_S)
            try:
                connection.connect(str(self._socket_path))
                _read_until(connection, b"$ ")
                connection.sendall(words.encode() + b"\n")
                answer = _read_until(connection, b"$ ")
            except OSError as error:
                raise WireError(f"wire {self.left.interface}: {words}: {error}") from error
        if b"1000 Success" not in answer:
            raise WireError(f"wire {self.left.interface}: {words}: {answer.decode().strip()}")

    def stop(self) -> None:
        """End its three processes; the taps stay."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


def _pipe_of_frames() -> tuple[int, int]:
    """(read end, write end) of a pipe that gives each write as one piece (pipe(2), O_DIRECT)."""
    ends = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    fcntl.fcntl(ends[1], _F_SETPIPE_SZ, _PIPE_BYTES)
    return ends


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionError("closed by the wire")
        received += chunk
    return received


def _milliseconds(delay_ms: float) -> str:
    return f"{delay_ms:g}"


def _percent(loss_ratio: float) -> str:
    return f"{100 * loss_ratio:g}"
