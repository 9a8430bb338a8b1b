"""The tables of a run, each as Parquet and CSV, and reading them again for the report.

probes      every probe that arrived: flow, sequence, when sent, one-way delay
flows       every flow and 1 s window: packets and L2 bytes sent and received
decisions   every decision with verdict, effect and the times of its hops
twins       a slice in a cell in a window, as its twin had it
user_twins  a user, slice and report, as the user's twin had it
windows     every slice and 1 s window: rates, loss, delay percentile, SLA terms
cells       every cell, slice and 1 s window: offered, delivered, reserved (L2)
requests    every request to a task service: user, when sent, latency, who answered
delays      each slice's delay distribution: quantile and one-way delay
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from controller.contracts.decisions import DecisionRecord
from topologies.results.cells import cell_slices
from topologies.results.evidence import Evidence, attachments, reservation_changes
from topologies.results.sla import judge
from topologies.results.windows import slice_windows

NAMES = ("probes", "flows", "decisions", "twins", "user_twins", "windows", "cells", "delays", "requests")
_QUANTILES = np.concatenate([np.linspace(0, 0.9, 91), 1 - np.geomspace(0.1, 1e-4, 60)])
REQUEST_SCHEMA = pa.schema(
    {
        "service": pa.string(),
        "ue_id": pa.string(),
        "request_id": pa.int64(),
        "sent_ns": pa.int64(),
        "latency_ms": pa.float64(),
        "host": pa.string(),
        "epoch": pa.int64(),
        "place": pa.string(),
    }
)
_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
USER_TWIN_SCHEMA = pa.schema(
    [
        *((name, _WHOLE) for name in ("measured_at_ns", "window", "period_ms")),
        *((name, _TEXT) for name in ("ue_id", "kind")),
        ("version", _WHOLE),
        ("cell_id", _TEXT),
        ("sst", _WHOLE),
        *((name, _TEXT) for name in ("sd", "slice_name")),
        ("slice_id", _WHOLE),
        *((name, _REAL) for name in ("demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms")),
        *((name, _REAL) for name in ("up_demand_kbps", "up_goodput_kbps", "mos", "rsrp_dbm")),
        *((name, _REAL) for name in ("x_m", "y_m", "speed_mps", "heading_deg")),
    ]
)
"""The columns of the controller's `UserRow`, in its order."""
_HOPS = (
    "twin_completed",
    "aggregate_sent",
    "aggregate_received",
    "inferred",
    "received",
    "guarded",
    "enforced",
    "confirmed",
)
_DECISION_COLUMNS = (
    "decision_id",
    "trace_id",
    "xapp",
    "action",
    "target",
    "parameters",
    "verdict",
    "reason",
    "effect",
    "effect_detail",
    "confirmations",
    "loop_latency_ms",
)


def write_tables(folder: Path, evidence: Evidence) -> list[Path]:
    """Write every table; returns the files. The RIC's own twins table is kept if it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "probes": probes_table(evidence),
        "flows": flows_table(evidence),
        "decisions": decisions_table(evidence.decisions),
        "windows": windows_table(evidence),
        "cells": cells_table(evidence),
        "delays": delays_table(evidence),
        "user_twins": pa.Table.from_pylist(list(evidence.user_rows), USER_TWIN_SCHEMA),
        "requests": pa.Table.from_pylist(list(evidence.requests.get("rows", [])), REQUEST_SCHEMA),
    }
    if evidence.twin_rows or not (folder / "twins.parquet").exists():
        tables["twins"] = pa.Table.from_pylist([dict(row) for row in evidence.twin_rows])
    paths = []
    for name, table in tables.items():
        paths += [folder / f"{name}.parquet", folder / f"{name}.csv"]
        pa_parquet.write_table(table, paths[-2])
        pa_csv.write_csv(table, paths[-1])
    return paths


def read_table(folder: Path, name: str) -> dict[str, list[Any]]:
    """Columns of a table that `write_tables` wrote; FileNotFoundError when it is missing."""
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such table", str(path))
    columns: dict[str, list[Any]] = pa_parquet.read_table(path).to_pydict()
    return columns


def probes_table(evidence: Evidence) -> pa.Table:
    measured = evidence.measurements
    ids = [f.flow_id for f in measured.flows if f.kind == "probe"]
    samples = measured.samples.where(np.isin(measured.samples.flow_id, ids))
    names = {s.slice_id: s.name for s in evidence.inventory.slices}
    flow = {f.flow_id: f for f in measured.flows}

    def of_flow(values: dict[int, str]) -> pa.Array:
        keys = sorted(values)
        place = np.searchsorted(keys, samples.flow_id).astype(np.int32)
        return pa.DictionaryArray.from_arrays(
            pa.array(place), pa.array([values[k] for k in keys], pa.string())
        ).cast(pa.string())

    return pa.table(
        {
            "flow": of_flow({i: flow[i].name for i in ids}),
            "slice": of_flow({i: names[flow[i].slice_id] for i in ids}),
            "traffic_class": of_flow({i: flow[i].traffic_class.value for i in ids}),
            "ue_id": of_flow({i: flow[i].ue_id for i in ids}),
            "direction": of_flow({i: flow[i].direction for i in ids}),
            "sequence": samples.sequence,
            "sent_ns": samples.sent_ns,
            "owd_ms": samples.owd_ns / 1e6,
        }
    )


def flows_table(evidence: Evidence) -> pa.Table:
    """TCP flows have a row of their own with figures of the whole window (window -1)."""
    measured = evidence.measurements
    counted = [f for f in measured.flows if f.kind != "tcp"]
    tcp = {r.flow_id: r for r in measured.tcp}
    windows = [*range(measured.first_window, measured.first_window + measured.window_count)]
    rows: list[dict[str, Any]] = []
    for flow in measured.flows:
        fixed = {
            "flow_id": flow.flow_id,
            "flow": flow.name,
            "kind": flow.kind,
            "slice_id": flow.slice_id,
            "traffic_class": flow.traffic_class.value,
            "ue_id": flow.ue_id,
            "cell_id": flow.cell_id,
            "direction": flow.direction,
            "payload_bytes": flow.payload_bytes,
        }
        if flow in counted:
            rows += [
                {**fixed, "window": window, **_counted(evidence, flow.flow_id, index)}
                for index, window in enumerate(windows)
            ]
        else:
            result = tcp[flow.flow_id]
            rows.append(
                {
                    **fixed,
                    "window": -1,
                    "tcp_goodput_mbps": result.goodput_mbps,
                    "tcp_retransmits": result.retransmits,
                    "tcp_rtt_mean_ms": result.rtt_mean_ms,
                }
            )
    return pa.Table.from_pylist(rows, schema=_FLOWS_SCHEMA)


_FLOWS_SCHEMA = pa.schema(
    [
        ("flow_id", pa.int64()),
        *((name, pa.string()) for name in ("flow", "kind")),
        ("slice_id", pa.int64()),
        *((name, pa.string()) for name in ("traffic_class", "ue_id", "cell_id", "direction")),
        *((name, pa.int64()) for name in ("payload_bytes", "window", "start_ns")),
        *((name, pa.int64()) for name in ("sent_packets", "received_packets")),
        *((name, pa.int64()) for name in ("sent_l2_bytes", "received_l2_bytes")),
        ("tcp_goodput_mbps", pa.float64()),
        ("tcp_retransmits", pa.int64()),
        ("tcp_rtt_mean_ms", pa.float64()),
    ]
)


def _counted(evidence: Evidence, flow_id: int, index: int) -> dict[str, int]:
    measured = evidence.measurements
    return {
        "start_ns": measured.start_ns + index * 1_000_000_000,
        "sent_packets": int(measured.sent_packets[flow_id, index]),
        "received_packets": int(measured.received_packets[flow_id, index]),
        "sent_l2_bytes": int(measured.sent_bytes[flow_id, index]),
        "received_l2_bytes": int(measured.received_bytes[flow_id, index]),
    }


def decisions_table(decisions: Sequence[DecisionRecord]) -> pa.Table:
    """Nested values are JSON text, so that Parquet and CSV have the same columns."""
    rows = []
    for record in decisions:
        document = record.model_dump(mode="json")
        row = {name: _flat(document[name]) for name in _DECISION_COLUMNS}
        rows.append(row | {f"{hop}_ns": record.hops_ns.get(hop) for hop in _HOPS})
    schema = pa.schema(
        [
            (name, pa.float64() if name == "loop_latency_ms" else pa.string())
            for name in _DECISION_COLUMNS
        ]
        + [(f"{hop}_ns", pa.int64()) for hop in _HOPS]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _flat(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def windows_table(evidence: Evidence) -> pa.Table:
    measured = evidence.measurements
    parts = []
    for slice_ in evidence.inventory.slices:
        windows = slice_windows(measured, slice_.slice_id)
        verdicts = judge(slice_.sla, windows)
        percentile = slice_.sla.delay.percentile if slice_.sla.delay else 95.0
        parts.append(
            pa.table(
                {
                    "slice": [slice_.name] * measured.window_count,
                    "window": measured.first_window + np.arange(measured.window_count),
                    "offered_mbps": windows.offered_mbps,
                    "goodput_mbps": windows.goodput_mbps,
                    "sent_packets": windows.sent_packets,
                    "lost_packets": windows.lost_packets,
                    "delay_percentile": [percentile] * measured.window_count,
                    "delay_ms": windows.delay_percentile_ms(percentile),
                    "goodput_holds": verdicts.goodput,
                    "delay_holds": verdicts.delay,
                    "loss_holds": verdicts.loss,
                    "satisfied": verdicts.satisfied,
                }
            )
        )
    return pa.concat_tables(parts)


def cells_table(evidence: Evidence) -> pa.Table:
    inventory, measured = evidence.inventory, evidence.measurements
    names = {s.slice_id: s.name for s in inventory.slices}
    figures = cell_slices(
        measured,
        attachments(inventory, evidence.decisions),
        reservation_changes(inventory, evidence.decisions, evidence.slice_life),
        [c.cell_id for c in inventory.cells],
        list(names),
    )
    return pa.concat_tables(
        pa.table(
            {
                "cell_id": [f.cell_id] * measured.window_count,
                "slice": [names[f.slice_id]] * measured.window_count,
                "window": measured.first_window + np.arange(measured.window_count),
                "offered_mbps": f.offered_mbps,
                "delivered_mbps": f.delivered_mbps,
                "reserved_mbps": f.reserved_mbps,
            }
        )
        for f in figures
    )


def delays_table(evidence: Evidence) -> pa.Table:
    parts = []
    for slice_ in evidence.inventory.slices:
        delay_ms = slice_windows(evidence.measurements, slice_.slice_id).delay_ms
        quantiles = _QUANTILES if len(delay_ms) else np.empty(0)
        values = np.quantile(delay_ms, quantiles) if len(delay_ms) else np.empty(0)
        parts.append(
            pa.table(
                {
                    "slice": pa.array([slice_.name] * len(quantiles), pa.string()),
                    "quantile": quantiles,
                    "owd_ms": values,
                }
            )
        )
    return pa.concat_tables(parts)
