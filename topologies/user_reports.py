"""What a user agent reports: pure functions from counters and radio to a `UserReport`.

A flow that the user receives is judged from sequence numbers: demand is what the
sender tried to send (received plus missing).  Of a flow that it sends, the user
knows what its application offered and what its own host refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from topologies.link_budget import LinkQuality
from topologies.tcp_connections import SEGMENT_OVERHEAD_BYTES

FloatArray = npt.NDArray[np.float64]
Totals = npt.NDArray[np.void]
"""Rows of `topologies.traffic.counters.TOTALS`, one a flow."""

STAGGER_RATIO = 0.4
"""Reports of a window leave within this share of the next one."""
MAX_STAGGER_NS = 500_000_000
_GOLDEN_RATIO = 0.6180339887498949
_KBPS_PER_BYTE_PER_NS = 8e6


@dataclass(frozen=True)
class FlowTable:
    """Constants of all flows of a run, arrays [flow]; index = flow id."""

    services: list[str]
    slice_ids: list[int]
    is_up: npt.NDArray[np.bool_]
    is_tcp: npt.NDArray[np.bool_]
    l2_bytes: FloatArray
    payload_bytes: FloatArray
    by_user: Mapping[str, list[int]]


@dataclass(frozen=True)
class FlowRates:
    """Of one window, arrays [flow]; L2 kbit/s, goodput payload kbit/s.

    `is_measured` False: the counters of that flow stood still or went back (its
    process ended, or traffic was started anew), so the window says nothing.
    """

    is_measured: npt.NDArray[np.bool_]
    demand_kbps: FloatArray
    goodput_kbps: FloatArray
    loss_ratio: FloatArray
    owd_p95_ms: FloatArray


def flow_table(flows: Sequence[Mapping[str, Any]]) -> FlowTable:
    """From the counters' metadata; flows that are no user's belong to nobody's report."""
    by_user: dict[str, list[int]] = {}
    for flow_id, flow in enumerate(flows):
        if flow["ue_id"]:
            by_user.setdefault(flow["ue_id"], []).append(flow_id)
    return FlowTable(
        services=[f["service"] for f in flows],
        slice_ids=[f["slice_id"] for f in flows],
        is_up=np.array([f["direction"] == "up" for f in flows], dtype=np.bool_),
        is_tcp=np.array([f["kind"] == "tcp" for f in flows], dtype=np.bool_),
        l2_bytes=np.array([f["l2_bytes"] for f in flows], dtype=np.float64),
        payload_bytes=np.array([f["payload_bytes"] for f in flows], dtype=np.float64),
        by_user=by_user,
    )


def part_of(table: FlowTable, flow_ids: Sequence[int]) -> FlowTable:
    """Of these flows only, numbered from 0."""
    return FlowTable(
        services=[table.services[i] for i in flow_ids],
        slice_ids=[table.slice_ids[i] for i in flow_ids],
        is_up=table.is_up[[*flow_ids]],
        is_tcp=table.is_tcp[[*flow_ids]],
        l2_bytes=table.l2_bytes[[*flow_ids]],
        payload_bytes=table.payload_bytes[[*flow_ids]],
        by_user={},
    )


def flow_rates(table: FlowTable, before: Totals, after: Totals) -> FlowRates:
    """Rates between two moments of the cumulative counters.

    Each half is divided by the time its counters really cover.  Packets that were
    overtaken across the window's edge can make more arrive than were numbered:
    loss is then 0.  TCP repeats what is lost, so its demand is what gets through,
    and only its sending end knows of losses.
    """

    def grown(name: str) -> FloatArray:
        difference: FloatArray = (after[name] - before[name]).astype(np.float64)
        return difference

    sent, dropped, received = grown("sent_packets"), grown("host_drops"), grown("received_packets")
    numbered = grown("highest_seq")
    elapsed_ns = np.where(table.is_up, grown("sent_updated_ns"), grown("received_updated_ns"))
    packets = np.where(table.is_up, sent, received)
    is_measured = (elapsed_ns > 0) & (packets >= 0) & (numbered >= 0)
    span_ns = np.where(is_measured, elapsed_ns, 1.0)
    offered = np.where(table.is_up, sent, numbered)
    missing = np.where(table.is_up, dropped, numbered - received)
    delivered = np.where(table.is_up, sent - dropped, received)
    lost = np.where(offered > 0, missing / np.maximum(offered, 1.0), 0.0)
    tcp_bytes = np.where(table.is_up, grown("sent_bytes"), grown("received_bytes"))
    l2 = np.where(table.is_tcp, tcp_bytes, offered * table.l2_bytes)
    tcp_payload = tcp_bytes - packets * SEGMENT_OVERHEAD_BYTES
    payload = np.where(table.is_tcp, tcp_payload, delivered * table.payload_bytes)
    has_delay = ~table.is_up & (received > 0)
    return FlowRates(
        is_measured=is_measured,
        demand_kbps=l2 * _KBPS_PER_BYTE_PER_NS / span_ns,
        goodput_kbps=payload * _KBPS_PER_BYTE_PER_NS / span_ns,
        loss_ratio=np.clip(lost, 0.0, 1.0),
        owd_p95_ms=np.where(has_delay, after["owd_p95_ms"], np.nan),
    )


def flow_reports(
    table: FlowTable, rates: FlowRates, flow_ids: Iterable[int]
) -> list[dict[str, Any]]:
    """`FlowReport`s as JSON-ready dicts; flows without a measurement are left out."""
    return [
        {
            "service": table.services[i],
            "slice_id": table.slice_ids[i],
            "up": bool(table.is_up[i]),
            "demand_kbps": round(float(rates.demand_kbps[i]), 3),
            "goodput_kbps": round(float(rates.goodput_kbps[i]), 3),
            "loss_ratio": round(float(rates.loss_ratio[i]), 6),
            "owd_p95_ms": _delay_ms(float(rates.owd_p95_ms[i])),
        }
        for i in flow_ids
        if rates.is_measured[i]
    ]


@dataclass(frozen=True)
class Radio:
    """What the user's radio says: RSRP per cell id, who serves, where it is."""

    cell_id: str
    rsrp_dbm: Mapping[str, float]
    position_m: tuple[float, float]
    speed_mps: float
    quality: LinkQuality | None = None


@dataclass(frozen=True)
class Header:
    """Whose report, of which period."""

    ue_id: str
    kind: str
    sequence: int
    measured_at_ns: int
    period_ms: int


def report_document(header: Header, radio: Radio, flows: list[dict[str, Any]]) -> dict[str, Any]:
    """A `UserReport`, JSON-ready; building the model itself costs ten times more."""
    return {
        "ue_id": header.ue_id,
        "kind": header.kind,
        "sequence": header.sequence,
        "window": last_window(header.measured_at_ns, header.period_ms),
        "measured_at_ns": header.measured_at_ns,
        "period_ms": header.period_ms,
        "cell_id": radio.cell_id,
        "rsrp_dbm": {c: round(v, 2) for c, v in radio.rsrp_dbm.items() if not np.isnan(v)},
        **({} if radio.quality is None else asdict(radio.quality)),
        "position_m": [round(x, 3) for x in radio.position_m],
        "speed_mps": round(radio.speed_mps, 3),
        "flows": flows,
    }


def encode_report(header: Header, radio: Radio, flows: list[dict[str, Any]]) -> bytes:
    """As a datagram's payload."""
    return orjson.dumps(report_document(header, radio, flows))


def last_window(now_ns: int, period_ms: int) -> int:
    """Number of the last whole window before `now_ns`."""
    return now_ns // (period_ms * 1_000_000) - 1


def next_boundary_ns(now_ns: int, period_ms: int) -> int:
    period_ns = period_ms * 1_000_000
    return (now_ns // period_ns + 1) * period_ns


def stagger_ns(user_index: int, period_ms: int) -> int:
    """The user's fixed wait after a window's end, spread evenly for any number of users."""
    longest_ns = min(STAGGER_RATIO * period_ms * 1e6, MAX_STAGGER_NS)
    return int((user_index * _GOLDEN_RATIO) % 1.0 * longest_ns)


def _delay_ms(delay_ms: float) -> float | None:
    return None if np.isnan(delay_ms) else round(max(0.0, delay_ms), 3)


def sequence_numbers(path: Path, count: int) -> npt.NDArray[np.int64]:
    """Sequence numbers in a file, so that a restarted process goes on counting.

    Otherwise its first reports would be replays to the local controllers.
    """
    if not path.exists() or path.stat().st_size != count * 8:
        path.write_bytes(bytes(count * 8))
    return np.memmap(path, dtype=np.int64, mode="r+", shape=(count,))
