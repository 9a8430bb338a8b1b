"""How long OpenFlow echoes wait: asked again and again, of a controller or of a switch.

Beside the testbed's own channels, for benchmarks and tests of faults.  To a controller
it is a switch that says hello, who it is, and nothing more.
"""

from __future__ import annotations

import socket
import struct
import threading
import time

PERIOD_S = 0.005
_HEADER = struct.Struct("!BBHI")
_VERSION = 4
_HELLO, _ECHO_REQUEST, _ECHO_REPLY, _FEATURES_REQUEST, _FEATURES_REPLY = 0, 2, 3, 5, 6
_FEATURES = struct.Struct("!QIBB2xII")


class EchoProbe:
    """`connected`: a stream to the peer; `dpid`: as which switch, where the peer asks.

    Use with `with`; the waits may be read afterwards.
    """

    def __init__(self, connected: socket.socket, dpid: int = 0) -> None:
        self._socket = connected
        self._dpid = dpid
        self._stopping = threading.Event()
        self._asked_s: dict[int, float] = {}
        self.waits_ms: list[float] = []
        """Of every echo that was answered, and of what was not until the end."""
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._ask, self._listen)
        ]

    def __enter__(self) -> EchoProbe:
        self._say(_HELLO, 0)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._threads[0].join()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._threads[1].join()
        self._socket.close()
        now_s = time.monotonic()
        self.waits_ms += [(now_s - asked_s) * 1000 for asked_s in self._asked_s.values()]

    def longest_ms(self) -> float:
        return max(self.waits_ms)

    def p99_ms(self) -> float:
        return sorted(self.waits_ms)[int(0.99 * len(self.waits_ms))]

    def _say(self, kind: int, xid: int, body: bytes = b"") -> None:
        self._socket.sendall(_HEADER.pack(_VERSION, kind, _HEADER.size + len(body), xid) + body)

    def _ask(self) -> None:
        number = 1
        while not self._stopping.wait(PERIOD_S):
            self._asked_s[number] = time.monotonic()
            self._say(_ECHO_REQUEST, number)
            number += 1

    def _listen(self) -> None:
        while (header := self._read(_HEADER.size)) is not None:
            _, kind, size, xid = _HEADER.unpack(header)
            body = self._read(size - _HEADER.size) or b""
            if kind == _ECHO_REPLY:
                self.waits_ms.append((time.monotonic() - self._asked_s.pop(xid)) * 1000)
            elif kind == _ECHO_REQUEST:
                self._say(_ECHO_REPLY, xid, body)
            elif kind == _FEATURES_REQUEST:
                self._say(_FEATURES_REPLY, xid, _FEATURES.pack(self._dpid, 0, 254, 0, 0x4F, 0))

    def _read(self, size: int) -> bytes | None:
        """None when the conversation is over."""
        received = b""
        while len(received) < size:
            try:
                chunk = self._socket.recv(size - len(received))
            except OSError:
                return None
            if not chunk:
                return None
            received += chunk
        return received
