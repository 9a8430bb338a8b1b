"""summary.json: the figures of one run. Pure: evidence in, a JSON-ready dict out.

The keys are a contract; the definitions of the figures stand where they are computed
(windows, sla, reserved, balance, validity, handovers, decision_counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from controller.contracts.decisions import Verdict
from controller.contracts.slices import BACKGROUND_SLICE_ID, Slice
from topologies.results.balance import Balance, ElsewhereDrops, balances, host_counts
from topologies.results.cells import cell_slices
from topologies.results.decision_counts import decision_counts, decisions_between, loop_latency
from topologies.results.evidence import (
    Evidence,
    ReservationChange,
    attachments,
    reservation_changes,
)
from topologies.results.handovers import handover_costs, handover_figures, ping_pongs
from topologies.results.percentiles import percentiles
from topologies.results.reserved import mean_reserved_kbps
from topologies.results.services import migration_figures, service_figures
from topologies.results.sla import SlaVerdicts, judge
from topologies.results.slice_life import ended_slices, slices_lived
from topologies.results.twin_error import twin_errors
from topologies.results.validity import uncounted_allowed, validity
from topologies.results.windows import payload_mbps, round_trips_ms, slice_windows
from topologies.traffic.engine import Measurements
from topologies.traffic.flows import Flow
from topologies.traffic.leaks import UNKNOWN_SLICE


def _applied(evidence: Evidence) -> int:
    return sum(d.verdict is Verdict.APPLIED for d in evidence.decisions)


def summarise(evidence: Evidence) -> dict[str, Any]:
    """Everything summary.json holds."""
    measured, inventory = evidence.measurements, evidence.inventory
    start_ns, end_ns = measured.start_ns, measured.end_ns
    changes = reservation_changes(inventory, evidence.decisions, evidence.slice_life)
    decided = decisions_between(evidence.decisions, start_ns, end_ns)
    balanced = _balances(evidence)
    load = [s for s in evidence.load if start_ns < s.at_ns <= end_ns]
    return {
        "scenario": evidence.scenario.name,
        "seed": inventory.seed,
        "policy": inventory.policy,
        "duration_s": measured.window_count,
        "versions": evidence.versions,
        "datapath": inventory.datapath,
        "delay": evidence.delay,
        "slicing": inventory.slicing,
        "measured": {"t0_ns": measured.t0_ns, "start_ns": start_ns, "end_ns": end_ns},
        "validity": validity(
            load,
            measured.slip,
            balanced,
            evidence.backlog_drops,
            # Balanced since traffic start, so every change counts, not the window's alone.
            uncounted_allowed(inventory.datapath, _applied(evidence)),
        ),
        "slices": [
            slice_figures(measured, s, changes, inventory.bottlenecks) for s in inventory.slices
        ],
        "slices_lived": slices_lived(inventory, evidence.slice_life, measured.t0_ns),
        "background": _background(measured),
        "cells": _cells(evidence, changes),
        "flows": [_flow_figures(measured, f) for f in measured.flows],
        "balance": None if balanced is None else [_balance_figures(b) for b in balanced],
        "leaks": {
            "unknown_slice_frames": _leaked(measured, UNKNOWN_SLICE),
            "by_host": {item["host"]: item["frames_by_slice"] for item in measured.leaks},
            "examples": {item["host"]: item["examples"] for item in measured.leaks},
        },
        "loop_latency_ms": loop_latency(decided, inventory.centre_delay_ms),
        "decisions": decision_counts(decided),
        "handovers": handover_figures(
            handover_costs(decided, measured.flows, measured.samples, start_ns, end_ns),
            ping_pongs(attachments(inventory, evidence.decisions), start_ns, end_ns),
        ),
        "services": service_figures(evidence.requests, inventory),
        "migrations": migration_figures(decided, evidence.requests),
        "twins": {**evidence.twins, "error": twin_errors(evidence)},
        "whatif": evidence.whatif,
    }


def slice_figures(
    measured: Measurements,
    slice_: Slice,
    changes: Sequence[ReservationChange],
    bottlenecks: Sequence[str],
) -> dict[str, Any]:
    """One slice of the summary; also what a live measurement shows."""
    windows = slice_windows(measured, slice_.slice_id)
    verdicts = judge(slice_.sla, windows)
    sent = int(windows.sent_packets.sum())
    reserved_kbps = mean_reserved_kbps(
        changes, bottlenecks, slice_.slice_id, measured.start_ns, measured.end_ns
    )
    return {
        "s_nssai": {"sst": slice_.s_nssai.sst, "sd": slice_.s_nssai.sd},
        "name": slice_.name,
        "slice_id": slice_.slice_id,
        "goodput_mbps": _mean(windows.goodput_mbps),
        "l2_rate_mbps": _mean(windows.l2_rate_mbps),
        "offered_mbps": _mean(windows.offered_mbps),
        "tcp_goodput_mbps": _tcp_goodput_mbps(measured, slice_.slice_id),
        "loss_ratio": round(int(windows.lost_packets.sum()) / sent, 9) if sent else None,
        "owd_ms": percentiles(windows.delay_ms),
        "rtt_ms": percentiles(round_trips_ms(measured.flows, measured.samples, slice_.slice_id)),
        "sla": {**slice_.sla.model_dump(mode="json"), "satisfied_ratio": _by_term(verdicts)},
        "sla_satisfied_ratio": _mean(verdicts.satisfied),
        "reserved_mbps": round(reserved_kbps / 1000, 6),
        "leaked_frames": _leaked(measured, slice_.slice_id),
    }


def _by_term(verdicts: SlaVerdicts) -> dict[str, float]:
    return {
        "goodput": _mean(verdicts.goodput),
        "delay": _mean(verdicts.delay),
        "loss": _mean(verdicts.loss),
    }


def _leaked(measured: Measurements, slice_id: int) -> int:
    """Frames of the slice that reached a host or a socket they should not have."""
    at_hosts = sum(item["frames_by_slice"].get(str(slice_id), 0) for item in measured.leaks)
    own = [f.flow_id for f in measured.flows if f.slice_id == slice_id]
    return int(at_hosts + measured.totals["wrong_slice"][own].sum())


def _tcp_goodput_mbps(measured: Measurements, slice_id: int) -> float | None:
    """None without TCP flows, or when none of them told its figures."""
    ids = {f.flow_id for f in measured.flows if f.slice_id == slice_id}
    told = [r.goodput_mbps for r in measured.tcp if r.flow_id in ids]
    known = [rate for rate in told if rate is not None]
    return round(sum(known), 6) if known else None


def _background(measured: Measurements) -> dict[str, Any]:
    rows = [f.flow_id for f in measured.flows if f.slice_id == BACKGROUND_SLICE_ID]
    sent = int(measured.sent_packets[rows].sum())
    lost = sent - int(measured.received_packets[rows].sum())
    return {
        "offered_mbps": _mean(payload_mbps(measured.sent_packets, measured.sent_bytes, rows)),
        "goodput_mbps": _mean(
            payload_mbps(measured.received_packets, measured.received_bytes, rows)
        ),
        "loss_ratio": round(lost / sent, 9) if sent else None,
    }


def _cells(evidence: Evidence, changes: Sequence[ReservationChange]) -> list[dict[str, Any]]:
    inventory = evidence.inventory
    names = {s.slice_id: s.name for s in inventory.slices}
    figures = cell_slices(
        evidence.measurements,
        attachments(inventory, evidence.decisions),
        changes,
        [c.cell_id for c in inventory.cells],
        list(names),
    )
    return [
        {
            "cell_id": cell.cell_id,
            "bottleneck": cell.cell_id in inventory.bottlenecks,
            "down_mbps": cell.down_kbps / 1000,
            "slices": [
                {
                    "name": names[f.slice_id],
                    "offered_mbps": _mean(f.offered_mbps),
                    "delivered_mbps": _mean(f.delivered_mbps),
                    "reserved_mbps": _mean(f.reserved_mbps),
                }
                for f in figures
                if f.cell_id == cell.cell_id
            ],
        }
        for cell in inventory.cells
    ]


def _flow_figures(measured: Measurements, flow: Flow) -> dict[str, Any]:
    """TCP flows have goodput, retransmissions and round-trip time; the others the rest."""
    figures: dict[str, Any] = {
        "name": flow.name,
        "kind": flow.kind,
        "slice_id": flow.slice_id,
        "direction": flow.direction,
    }
    if flow.kind == "tcp":
        result = next(r for r in measured.tcp if r.flow_id == flow.flow_id)
        return figures | {
            "goodput_mbps": result.goodput_mbps,
            "retransmits": result.retransmits,
            "rtt_mean_ms": result.rtt_mean_ms,
            "error": result.error,
        }
    row = [flow.flow_id]
    sent = int(measured.sent_packets[row].sum())
    received = int(measured.received_packets[row].sum())
    own = measured.samples.flow_id == flow.flow_id
    return figures | {
        "offered_mbps": _mean(payload_mbps(measured.sent_packets, measured.sent_bytes, row)),
        "goodput_mbps": _mean(
            payload_mbps(measured.received_packets, measured.received_bytes, row)
        ),
        "sent_packets": sent,
        "lost_packets": sent - received,
        "owd_ms": percentiles(measured.samples.owd_ns[own] / 1e6),
    }


def _balances(evidence: Evidence) -> list[Balance] | None:
    if evidence.switches is None:
        return None
    measured = evidence.measurements
    counts = host_counts(
        measured.flows, measured.totals, evidence.request_packets, evidence.tcp_segments
    )
    ended = ended_slices(evidence.slice_life)
    lived = {i: c for i, c in counts.items() if i not in ended}
    elsewhere = ElsewhereDrops(evidence.radio_drops, evidence.function_drops)
    return balances(lived, evidence.switches, elsewhere)


def _balance_figures(balance: Balance) -> dict[str, Any]:
    return {
        "slice_ids": list(balance.slice_ids),
        "sent": balance.sent,
        "received": balance.received,
        "meter_drops": balance.meter_drops,
        "queue_drops": balance.queue_drops,
        "function_drops": balance.function_drops,
        "rule_drops": balance.rule_drops,
        "host_drops": balance.host_drops,
        "socket_drops": balance.socket_drops,
        "missing": balance.missing,
    }


def _mean(values: Any) -> float:
    return round(float(np.mean(values)), 6)
