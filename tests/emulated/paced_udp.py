"""Measuring a path with UDP: paced sender and counting receiver in two hosts."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import select
import socket
import struct
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from topologies.namespaces import socket_in

HEADER_BYTES = 14 + 20 + 8
_TIMESTAMPNS = 35
_QUIET_S = 0.7
"""The longest queue is drained when nothing came for so long."""
_TWICE_S = 0.05
"""Once all that was sent is there: nothing comes twice."""


@dataclass(frozen=True)
class Arrivals:
    """Per packet, in order of arrival; `times_s` are the kernel's (CLOCK_REALTIME)."""

    sent: int
    times_s: list[float]
    delays_ms: list[float]
    payload_bytes: int

    @property
    def received(self) -> int:
        return len(self.times_s)

    @property
    def loss_ratio(self) -> float:
        return 1 - self.received / self.sent

    def l2_mbps(self, skip_s: float = 0.5) -> float:
        """Frame rate at the receiver, without the start (queues fill, bursts pass)."""
        return self.l2_mbps_between(self.times_s[0] + skip_s, self.times_s[-1])

    def l2_mbps_between(self, start_s: float, end_s: float) -> float:
        """Frame rate at the receiver between two moments of its clock."""
        times_s = [t for t in self.times_s if start_s <= t <= end_s]
        bits = (len(times_s) - 1) * (self.payload_bytes + HEADER_BYTES) * 8
        return bits / (times_s[-1] - times_s[0]) / 1e6


def send_and_count(
    source: str,
    sink: str,
    address: tuple[str, int],
    mbps: float,
    duration_s: float,
    dscp: int = 0,
    payload_bytes: int = 1200,
    bind_ip: str = "",
    enough: threading.Event | None = None,
) -> Arrivals:
    """Send at `mbps` (frames) from namespace `source` for `duration_s`, or until there is
    `enough`; count in namespace `sink`."""
    with socket_in(sink, socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        receiver.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        receiver.bind(address)
        times_s: list[float] = []
        delays_ms: list[float] = []
        sending: Future[int] = Future()
        counting = threading.Thread(target=_count, args=(receiver, sending, times_s, delays_ms))
        counting.start()
        sent = 0
        try:
            sent = _send(
                source, address, mbps, duration_s, dscp, payload_bytes, bind_ip,
                enough or threading.Event(),
            )  # fmt: skip
        finally:
            sending.set_result(sent)
            counting.join()
    return Arrivals(sent, times_s, delays_ms, payload_bytes)


def _count(
    receiver: socket.socket, sending: Future[int], times_s: list[float], delays_ms: list[float]
) -> None:
    """Until the sender is done (it says how many) and nothing comes any more."""
    while True:
        is_sent, wait_s = sending.done(), 0.1
        if is_sent:
            wait_s = _TWICE_S if len(times_s) >= sending.result() else _QUIET_S
        if not select.select([receiver], [], [], wait_s)[0]:
            if is_sent:
                return
            continue
        payload, ancillary, _, _ = receiver.recvmsg(2048, 64)
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2][:16])
        arrived_ns = seconds * 1_000_000_000 + nanoseconds
        times_s.append(arrived_ns / 1e9)
        delays_ms.append((arrived_ns - struct.unpack("=q", payload[:8])[0]) / 1e6)


def _send(
    source: str,
    address: tuple[str, int],
    mbps: float,
    duration_s: float,
    dscp: int,
    payload_bytes: int,
    bind_ip: str,
    enough: threading.Event,
) -> int:
    interval_s = (payload_bytes + HEADER_BYTES) * 8 / (mbps * 1e6)
    filling = bytes(payload_bytes - 8)
    with socket_in(source, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        if bind_ip:
            sender.bind((bind_ip, 0))
        started_s = time.monotonic()
        sent = 0
        while not enough.is_set() and (elapsed_s := time.monotonic() - started_s) < duration_s:
            due = int(elapsed_s / interval_s) + 1
            while sent < due:
                sender.sendto(struct.pack("=q", time.time_ns()) + filling, address)
                sent += 1
            enough.wait(max(0.0, started_s + sent * interval_s - time.monotonic()))
    return sent


def in_processes(flows: list[tuple[Any, ...]]) -> list[Arrivals]:
    """Several flows at once, a process each: threads of one would slow each other down."""
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(len(flows), mp_context=fork) as pool:
        started = [pool.submit(send_and_count, *flow) for flow in flows]
        return [flow.result() for flow in started]
