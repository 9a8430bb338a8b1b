"""Turns batches of received datagrams into counters, windows and delay samples.

No sockets and no clock of its own: a batch and the time come in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies.traffic.counters import WINDOW_NS, FlowCounters
from topologies.traffic.datagrams import Datagrams
from topologies.traffic.flows import L2_OVERHEAD_BYTES, Flow
from topologies.traffic.payload import MAGIC
from topologies.traffic.samples import SampleRing

RECENT_NS = 500_000_000
P95_PERIOD_NS = 250_000_000

Int64Array = npt.NDArray[np.int64]


class Tally:
    """What `flows` (in the order of their sockets) received since `start`."""

    def __init__(self, counters: FlowCounters, flows: Sequence[Flow]) -> None:
        self._counters = counters
        self._flow_ids = np.array([f.flow_id for f in flows], dtype=np.int64)
        self._slice_ids = np.array([f.slice_id for f in flows], dtype=np.int64)
        self._sampled = np.array([f.kind in ("paced", "probe") for f in flows], dtype=np.bool_)
        self._t0_ns: int | None = None
        self._marks: deque[tuple[int, int]] = deque([(0, 0)])
        self.ring = SampleRing()
        self.strangers = 0
        """Datagrams that no sender of this traffic session sent."""
        self.without_kernel_time = 0

    def start(self, t0_ns: int) -> None:
        self._t0_ns = t0_ns

    def reset(self) -> None:
        """Forget everything, this half of the counters' table excepted (its owner resets it)."""
        self._t0_ns = None
        self._marks = deque([(0, 0)])
        self.ring.clear()
        self.strangers = 0
        self.without_kernel_time = 0

    def set_socket_drops(self, drops: Sequence[int]) -> None:
        self._counters.totals["socket_drops"][self._flow_ids] = drops

    def add(self, batch: Datagrams | None, drained_ns: int) -> None:
        """Count a batch that was complete at CLOCK_REALTIME `drained_ns`."""
        if self._t0_ns is None:
            self.strangers += 0 if batch is None else len(batch.socket_index)
            return
        if batch is not None:
            self._count(batch, self._t0_ns)
        self._counters.totals["received_updated_ns"][self._flow_ids] = drained_ns
        if drained_ns - self._marks[-1][0] >= P95_PERIOD_NS:
            self._update_p95(drained_ns)

    def _count(self, batch: Datagrams, t0_ns: int) -> None:
        index, header = batch.socket_index, batch.header
        ours = (header["magic"] == MAGIC) & (header["sent_ns"] >= t0_ns)
        right = ours & (header["flow_id"] == self._flow_ids[index])
        crossed = ours & (header["slice_id"] != self._slice_ids[index])
        good = right & ~crossed
        if not good.all():
            wrong = np.bincount(index[crossed], minlength=len(self._flow_ids))
            self._counters.totals["wrong_slice"][self._flow_ids] += wrong
            self.strangers += int((~good & ~crossed).sum())
            index, header = index[good], header[good]
        received_ns, payload_bytes = batch.received_ns[good], batch.payload_bytes[good]
        if len(index) == 0:
            return
        l2_bytes = payload_bytes + L2_OVERHEAD_BYTES
        self._add_totals(index, header["sequence"], l2_bytes)
        self._add_windows(index, (header["sent_ns"] - t0_ns) // WINDOW_NS, l2_bytes)
        self._add_samples(index, header, received_ns)

    def _add_totals(self, index: Int64Array, sequence: Int64Array, l2_bytes: Int64Array) -> None:
        totals, ids, count = self._counters.totals, self._flow_ids, len(self._flow_ids)
        totals["received_packets"][ids] += np.bincount(index, minlength=count)
        totals["received_bytes"][ids] += np.bincount(index, l2_bytes, count).astype(np.int64)
        highest = totals["highest_seq"][ids]
        np.maximum.at(highest, index, sequence)
        totals["highest_seq"][ids] = highest

    def _add_windows(self, index: Int64Array, windows: Int64Array, l2_bytes: Int64Array) -> None:
        first = int(windows.min())
        width = int(windows.max()) - first + 1
        pairs, place, packets = np.unique(
            index * width + (windows - first), return_inverse=True, return_counts=True
        )
        self._counters.add_to_windows(
            "received",
            self._flow_ids[pairs // width],
            pairs % width + first,
            packets.astype(np.int64),
            np.bincount(place, l2_bytes).astype(np.int64),
        )

    def _add_samples(
        self, index: Int64Array, header: npt.NDArray[np.void], received_ns: Int64Array
    ) -> None:
        sampled = self._sampled[index]
        told = received_ns > 0
        self.without_kernel_time += int((sampled & ~told).sum())
        keep = sampled & told
        sent_ns = header["sent_ns"][keep]
        self.ring.add(
            self._flow_ids[index[keep]],
            header["sequence"][keep],
            sent_ns,
            received_ns[keep] - sent_ns,
        )

    def _update_p95(self, now_ns: int) -> None:
        while len(self._marks) > 1 and self._marks[1][0] <= now_ns - RECENT_NS:
            self._marks.popleft()
        recent = self.ring.since_count(self._marks[0][1])
        self._marks.append((now_ns, self.ring.count))
        p95_ms = np.full(len(self._counters.totals), np.nan)
        order = np.lexsort((recent.owd_ns, recent.flow_id))
        flow_id, owd_ns = recent.flow_id[order], recent.owd_ns[order]
        present, first, count = np.unique(flow_id, return_index=True, return_counts=True)
        rank = first + np.ceil(0.95 * count).astype(np.int64) - 1
        p95_ms[present] = owd_ns[rank] / 1e6
        self._counters.totals["owd_p95_ms"][:] = p95_ms
