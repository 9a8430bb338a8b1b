"""The pacer: sends every flow's packets at the moment and rate its demand asks for.

One loop on an absolute schedule. A tick (4 ms, filler 8 ms) gives each stream of variable rate
its credit in bytes and sends what the credit covers; each probe has a due time of
its own, and how late it left (the timer slip) is recorded. Sequence numbers double
as counters, so a packet costs one clock read, one `pack_into`, one `send`.
"""

from __future__ import annotations

import heapq
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from topologies.traffic.counters import WINDOW_NS, FlowCounters, window_of
from topologies.traffic.payload import STAMP, STAMP_OFFSET

TICK_NS = 4_000_000
"""Streams and probes share this grid: what comes together, the userspace switch forwards at
one wake-up instead of many, and a wake-up costs it more than a packet (0.2 ms, 70 system
calls).  Measured on crossroads: 3,600 wake-ups/s with a grid of 1 ms."""
BULK_TICK_NS = 8_000_000
"""Of filler."""
FLUSH_NS = 10_000_000
RATE_UPDATE_NS = 50_000_000
MAX_BURST_NS = 20_000_000
"""Credit beyond 20 ms of rate is forgone: a late tick must not become a flood."""
KEPT_SLIPS = 1_000_000
_GOLDEN_RATIO = 0.6180339887498949

Send = Callable[[bytearray], int]
RateMbps = Callable[[float], float]


@dataclass
class Stream:
    """A flow of variable rate. `rate_mbps(t_s)` is L2; `bulk`: sent in bursts."""

    flow_id: int
    l2_bytes: int
    payload: bytearray
    send: Send
    rate_mbps: RateMbps
    bulk: bool = False
    sequence: int = 0
    host_drops: int = 0
    credit_bytes: float = 0.0
    bytes_per_ns: float = 0.0


@dataclass
class Probe:
    """A flow of constant period."""

    flow_id: int
    l2_bytes: int
    payload: bytearray
    send: Send
    period_ns: int
    sequence: int = 0
    host_drops: int = 0


@dataclass
class Slips:
    """How late probes left: due moment (CLOCK_REALTIME ns) and lateness (ns)."""

    due_ns: array[int] = field(default_factory=lambda: array("q"))
    late_ns: array[int] = field(default_factory=lambda: array("q"))

    def add(self, due_ns: int, late_ns: int) -> None:
        self.due_ns.append(due_ns)
        self.late_ns.append(late_ns)
        if len(self.due_ns) > 2 * KEPT_SLIPS:
            del self.due_ns[:KEPT_SLIPS], self.late_ns[:KEPT_SLIPS]

    def summary(self, since_ns: int, until_ns: int) -> dict[str, float | int | None]:
        # Copies first: numpy lets go of the interpreter while it reads an array, and the
        # pacing thread may not append to one that is being read (BufferError ends it).
        due_ns = np.array(self.due_ns[:], dtype=np.int64)
        late_ns = np.array(self.late_ns[: len(due_ns)], dtype=np.int64)
        late_ms = late_ns[(due_ns >= since_ns) & (due_ns < until_ns)] / 1e6
        if len(late_ms) == 0:
            return {"samples": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
        p50_ms, p99_ms = np.percentile(late_ms, [50, 99])
        return {
            "samples": len(late_ms),
            "p50_ms": float(p50_ms),
            "p99_ms": float(p99_ms),
            "max_ms": float(late_ms.max()),
        }


class Pacer:
    """Sends from `run(t0_ns)` until `stop()`; all state of one traffic session."""

    def __init__(self, counters: FlowCounters, streams: list[Stream], probes: list[Probe]) -> None:
        self._counters = counters
        self._streams = streams
        self._bulk = [s for s in streams if s.bulk]
        self._smooth = [s for s in streams if not s.bulk]
        self._probes = probes
        self._all: list[Stream | Probe] = [*streams, *probes]
        self._ids = np.array([s.flow_id for s in self._all], dtype=np.int64)
        self._l2_bytes = np.array([s.l2_bytes for s in self._all], dtype=np.int64)
        self._flushed = np.zeros(len(self._all), dtype=np.int64)
        self._stopping = False
        self._t0_ns = 0
        self._realtime_less_monotonic_ns = 0
        self._window_end_ns = 0
        self.slips = Slips()
        self.forgone_bytes = 0

    def stop(self) -> None:
        """Ask `run` to return; it flushes first. Safe in a signal handler."""
        self._stopping = True

    def run(self, t0_ns: int) -> None:
        """Send from CLOCK_REALTIME `t0_ns` on until `stop()`; in the calling thread."""
        self._t0_ns = t0_ns
        self._realtime_less_monotonic_ns = time.time_ns() - time.monotonic_ns()
        self._window_end_ns = t0_ns + WINDOW_NS
        start_ns = t0_ns - self._realtime_less_monotonic_ns
        while not self._stopping:
            left_ns = start_ns - time.monotonic_ns()
            if left_ns <= 0:
                self._loop(start_ns)
                break
            time.sleep(min(left_ns, 50_000_000) / 1e9)
        self._flush(time.time_ns())

    def _loop(self, start_ns: int) -> None:
        due = [
            (start_ns + _on_grid(probe.period_ns * (index * _GOLDEN_RATIO % 1.0)), index)
            for index, probe in enumerate(self._probes)
        ]
        heapq.heapify(due)
        next_tick_ns = next_flush_ns = next_rates_ns = last_tick_ns = start_ns
        last_bulk_ns = start_ns
        while not self._stopping:
            now_ns = time.monotonic_ns()
            while due and due[0][0] <= now_ns:
                due_ns, index = due[0]
                probe = self._probes[index]
                heapq.heapreplace(due, (due_ns + probe.period_ns, index))
                late_ns = time.monotonic_ns() - due_ns
                self._send_one(probe)
                self.slips.add(due_ns + self._realtime_less_monotonic_ns, late_ns)
            if now_ns >= next_tick_ns:
                if now_ns >= next_rates_ns:
                    self._update_rates((now_ns - start_ns) / 1e9)
                    next_rates_ns += RATE_UPDATE_NS
                self._tick(self._smooth, now_ns - last_tick_ns)
                last_tick_ns = now_ns
                if now_ns - last_bulk_ns >= BULK_TICK_NS:
                    self._tick(self._bulk, now_ns - last_bulk_ns)
                    last_bulk_ns = now_ns
                if now_ns >= next_flush_ns:
                    self._flush(time.time_ns())
                    next_flush_ns = now_ns + FLUSH_NS
                next_tick_ns += TICK_NS * (1 + (now_ns - next_tick_ns) // TICK_NS)
            wake_ns = min(next_tick_ns, due[0][0]) if due else next_tick_ns
            left_ns = wake_ns - time.monotonic_ns()
            if left_ns > 0:
                time.sleep(left_ns / 1e9)

    def _tick(self, streams: list[Stream], elapsed_ns: int) -> None:
        for stream in streams:
            credit_bytes = stream.credit_bytes + stream.bytes_per_ns * elapsed_ns
            l2_bytes = stream.l2_bytes
            if credit_bytes < l2_bytes:
                stream.credit_bytes = credit_bytes
                continue
            most_bytes = stream.bytes_per_ns * MAX_BURST_NS + l2_bytes
            if credit_bytes > most_bytes:
                self.forgone_bytes += int(credit_bytes - most_bytes)
                credit_bytes = most_bytes
            while credit_bytes >= l2_bytes:
                credit_bytes -= l2_bytes
                self._send_one(stream)
            stream.credit_bytes = credit_bytes

    def _send_one(self, flow: Stream | Probe) -> None:
        now_ns = time.time_ns()
        if now_ns >= self._window_end_ns:
            self._flush(now_ns)
            self._window_end_ns = self._t0_ns + (window_of(now_ns, self._t0_ns) + 1) * WINDOW_NS
        flow.sequence += 1
        STAMP.pack_into(flow.payload, STAMP_OFFSET, flow.sequence, now_ns)
        try:
            flow.send(flow.payload)
        except ConnectionRefusedError:
            self._send_again(flow)
        except OSError:
            flow.host_drops += 1

    def _send_again(self, flow: Stream | Probe) -> None:
        """The refusal told of an earlier packet; this one has not been tried yet."""
        try:
            flow.send(flow.payload)
        except OSError:
            flow.host_drops += 1

    def _update_rates(self, t_s: float) -> None:
        for stream in self._streams:
            stream.bytes_per_ns = stream.rate_mbps(t_s) / 8000.0

    def _flush(self, now_ns: int) -> None:
        """Publish what was sent; all of it since the last flush is of one window."""
        sequences = np.array([s.sequence for s in self._all], dtype=np.int64)
        fresh = sequences - self._flushed
        self._flushed = sequences
        totals = self._counters.totals
        totals["sent_packets"][self._ids] = sequences
        totals["sent_bytes"][self._ids] = sequences * self._l2_bytes
        totals["host_drops"][self._ids] = [s.host_drops for s in self._all]
        totals["sent_updated_ns"][self._ids] = now_ns
        some = fresh > 0
        if some.any():
            window = self._window_end_ns - WINDOW_NS
            windows = np.full(int(some.sum()), window_of(window, self._t0_ns), dtype=np.int64)
            self._counters.add_to_windows(
                "sent",
                self._ids[some],
                windows,
                fresh[some],
                (fresh * self._l2_bytes)[some],
            )


def _on_grid(phase_ns: float) -> int:
    return int(phase_ns) // TICK_NS * TICK_NS
