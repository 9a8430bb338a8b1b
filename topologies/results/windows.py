"""Per slice and 1 s window: what was offered, what arrived, how late. Pure.

A packet counts in the window in which it was sent. Offered, goodput and L2 rate are of
paced senders (payload, payload, frames); loss and delay are of paced packets and probes.
TCP is in none of them: it offers what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from topologies.traffic.counters import WINDOW_NS
from topologies.traffic.engine import Measurements
from topologies.traffic.flows import L2_OVERHEAD_BYTES, Flow
from topologies.traffic.samples import Samples

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
_MBIT_PER_BYTE = 8 / 1e6


@dataclass(frozen=True)
class SliceWindows:
    """Arrays of one value a window, `delay_ms` and `delay_window` of one value a packet."""

    slice_id: int
    offered_mbps: FloatArray
    goodput_mbps: FloatArray
    l2_rate_mbps: FloatArray
    sent_packets: Int64Array
    lost_packets: Int64Array
    delay_ms: FloatArray
    delay_window: Int64Array

    def delay_percentile_ms(self, percentile: float) -> FloatArray:
        """Per window, the least delay that so many percent of its packets did not exceed.

        NaN where no packet of the window arrived.
        """
        result = np.full(len(self.sent_packets), np.nan)
        order = np.argsort(self.delay_window, kind="stable")
        delay_ms, window = self.delay_ms[order], self.delay_window[order]
        edges = np.searchsorted(window, np.arange(len(result) + 1))
        for index in range(len(result)):
            inside = delay_ms[edges[index] : edges[index + 1]]
            if len(inside):
                result[index] = np.percentile(inside, percentile, method="inverted_cdf")
        return result


def slice_windows(measured: Measurements, slice_id: int) -> SliceWindows:
    paced = _rows(measured.flows, slice_id, ("paced",))
    counted = _rows(measured.flows, slice_id, ("paced", "probe"))
    sent, received = measured.sent_packets[counted], measured.received_packets[counted]
    samples = measured.samples.where(np.isin(measured.samples.flow_id, counted))
    return SliceWindows(
        slice_id=slice_id,
        offered_mbps=payload_mbps(measured.sent_packets, measured.sent_bytes, paced),
        goodput_mbps=payload_mbps(measured.received_packets, measured.received_bytes, paced),
        l2_rate_mbps=measured.received_bytes[paced].sum(axis=0) * _MBIT_PER_BYTE,
        sent_packets=sent.sum(axis=0),
        lost_packets=(sent - received).sum(axis=0),
        delay_ms=samples.owd_ns / 1e6,
        delay_window=(samples.sent_ns - measured.start_ns) // WINDOW_NS,
    )


def payload_mbps(packets: Int64Array, l2_bytes: Int64Array, rows: Sequence[int]) -> FloatArray:
    """Payload rate of the rows' flows together, per 1 s window."""
    payload = l2_bytes[rows] - L2_OVERHEAD_BYTES * packets[rows]
    result: FloatArray = payload.sum(axis=0) * _MBIT_PER_BYTE
    return result


def _rows(flows: Sequence[Flow], slice_id: int, kinds: Sequence[str]) -> list[int]:
    return [f.flow_id for f in flows if f.slice_id == slice_id and f.kind in kinds]


def round_trips_ms(flows: Sequence[Flow], samples: Samples, slice_id: int) -> FloatArray:
    """One-way delay up plus one-way delay down, of each user's probes in the slice.

    Each uplink probe is paired with the first downlink probe sent after its arrival,
    as if the server had answered with it.
    """
    ends: dict[tuple[str, str], dict[str, int]] = {}
    for flow in flows:
        if flow.kind == "probe" and flow.slice_id == slice_id:
            ends.setdefault((flow.ue_id, flow.service), {})[flow.direction] = flow.flow_id
    found = [_paired(samples, e["up"], e["down"]) for e in ends.values() if len(e) == 2]
    return np.concatenate(found) if found else np.empty(0)


def _paired(samples: Samples, up_id: int, down_id: int) -> FloatArray:
    up, down = (samples.where(samples.flow_id == flow_id) for flow_id in (up_id, down_id))
    order = np.argsort(down.sent_ns)
    sent_ns, owd_ns = down.sent_ns[order], down.owd_ns[order]
    follower = np.searchsorted(sent_ns, up.sent_ns + up.owd_ns)
    has_one = follower < len(sent_ns)
    result: FloatArray = (up.owd_ns[has_one] + owd_ns[follower[has_one]]) / 1e6
    return result
