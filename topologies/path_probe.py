"""Numbered packets between two hosts, both ways at a constant rate: what a fault costs.

Beside the testbed's own traffic, for benchmarks and tests of faults: it tells each
direction's lost packets and its longest silence, for any span of time afterwards.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from controller.contracts.inventory import Host
from topologies.namespaces import socket_in

_PACKET = struct.Struct("=Iq88x")
"""Number, CLOCK_MONOTONIC ns of sending; 100 bytes of payload."""
_SETTLE_S = 0.3
"""What is under way arrives within this; once all that was sent is there, nobody waits."""
DEFAULT_UDP_PORT = 7999
"""Probes that share an address need a port each."""


@dataclass(frozen=True)
class Span:
    """One direction in a span of time, by the moment of sending."""

    sent: int
    lost: int
    longest_gap_ms: float
    """Between two arrivals that follow each other; where the first or the last packet of the span
    was lost, also from its sending to the first arrival, and from the last arrival to its end."""


class Direction:
    """What was sent and what arrived one way."""

    def __init__(self) -> None:
        self.sent_ns: list[int] = []
        self.arrived_ns: dict[int, int] = {}

    def between(self, start_ns: int, end_ns: int) -> Span:
        numbers = [n for n, at in enumerate(self.sent_ns) if start_ns <= at < end_ns]
        arrivals = sorted(self.arrived_ns[n] for n in numbers if n in self.arrived_ns)
        moments = list(arrivals)
        if numbers and numbers[0] not in self.arrived_ns:
            moments.insert(0, self.sent_ns[numbers[0]])
        if numbers and numbers[-1] not in self.arrived_ns:
            moments.append(max(end_ns, moments[-1]))
        gaps = [b - a for a, b in zip(moments, moments[1:], strict=False)]
        longest_ns = max(gaps, default=end_ns - start_ns)
        return Span(len(numbers), len(numbers) - len(arrivals), longest_ns / 1e6)


class PathProbe:
    """Between `left` and `right`, each at its own address (of one slice). Use with `with`.

    `stop` ends it and waits for what is under way; `left_to_right` and `right_to_left`
    may be asked afterwards.
    """

    def __init__(
        self,
        left: Host,
        left_ip: str,
        right: Host,
        right_ip: str,
        rate_pps: float = 1000,
        udp_port: int = DEFAULT_UDP_PORT,
    ) -> None:
        self._ends = (left_ip, udp_port), (right_ip, udp_port)
        self._sockets = tuple(
            _open(host.netns_path, end) for host, end in zip((left, right), self._ends, strict=True)
        )
        for opened, far in zip(self._sockets, reversed(self._ends), strict=True):
            opened.connect(far)
        self._period_ns = round(1e9 / rate_pps)
        self.left_to_right, self.right_to_left = Direction(), Direction()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)
        ]

    def __enter__(self) -> PathProbe:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for opened in self._sockets:
            opened.close()

    def both(self, start_ns: int, end_ns: int) -> tuple[Span, Span]:
        """Left to right, right to left."""
        return (
            self.left_to_right.between(start_ns, end_ns),
            self.right_to_left.between(start_ns, end_ns),
        )

    def lost(self) -> int:
        """Of all that was sent, both ways."""
        return sum(len(d.sent_ns) - len(d.arrived_ns) for d in self._directions)

    @property
    def _directions(self) -> tuple[Direction, Direction]:
        return self.left_to_right, self.right_to_left

    def _send(self) -> None:
        ways: list[tuple[Callable[[bytes], int], Direction]] = [
            (self._sockets[0].send, self.left_to_right),
            (self._sockets[1].send, self.right_to_left),
        ]
        due_ns = time.monotonic_ns()
        while not self._stopping.is_set():
            for send, direction in ways:
                now_ns = time.monotonic_ns()
                number = len(direction.sent_ns)
                direction.sent_ns.append(now_ns)
                with contextlib.suppress(OSError):  # refused by the host's own stack: lost
                    send(_PACKET.pack(number, now_ns))
            due_ns += self._period_ns
            time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)

    def _receive(self) -> None:
        arriving = {self._sockets[1]: self.left_to_right, self._sockets[0]: self.right_to_left}
        stop_ns = None
        while stop_ns is None or time.monotonic_ns() < stop_ns:
            if stop_ns is None and self._stopping.is_set():
                stop_ns = time.monotonic_ns() + round(_SETTLE_S * 1e9)
            if stop_ns is not None and not self._threads[0].is_alive() and self.lost() == 0:
                return
            for opened in select.select(list(arriving), [], [], 0.05)[0]:
                number, _ = _PACKET.unpack(opened.recv(2048))
                arriving[opened].arrived_ns[number] = time.monotonic_ns()


def _open(netns_path: str, end: tuple[str, int]) -> socket.socket:
    opened = socket_in(netns_path, socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind(end)
    return opened
