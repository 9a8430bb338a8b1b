"""Synthetic evidence of a run, for tests of what is computed from it.

Made by rule, not measured: video swings above its reservation and loses there; control is
calm; one handover of ue2 loses three probes downlink.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from controller.contracts.decisions import Action, DecisionRecord, Effect, Verdict
from controller.contracts.inventory import Inventory
from tests.sample_inventory import sample_inventory, sample_scenario
from topologies.results.evidence import (
    Evidence,
    LoadSample,
    SharedQueueDrops,
    SwitchCounts,
    SwitchTotals,
)
from topologies.traffic.counters import TOTALS, WINDOW_NS
from topologies.traffic.engine import Measurements
from topologies.traffic.flows import flows_of
from topologies.traffic.samples import Samples

T0_NS = 1_700_000_000_000_000_000
HANDOVER_S = 12.0
VIDEO_QUEUE_DROPS_PER_WINDOW = 20


def two_cells() -> Inventory:
    inventory = sample_inventory()
    second = inventory.cells[0].model_copy(update={"cell_id": "ap2", "switch": "ap2"})
    return inventory.model_copy(
        update={"cells": [*inventory.cells, second], "bottlenecks": ["ap1", "ap2"]}
    )


def sample_measurements(windows: int = 40, first_window: int = 5) -> Measurements:
    """Whole seconds; every packet of a window is evenly spaced, delays drawn from a fixed seed."""
    flows = flows_of(sample_scenario(), two_cells())
    draw = np.random.default_rng(7)
    sent = np.zeros((len(flows), windows), dtype=np.int64)
    lost = np.zeros_like(sent)
    at_s = np.arange(windows)
    high = (at_s % 20) >= 10
    for flow in flows:
        if flow.name == "stream-ue1":
            sent[flow.flow_id] = np.where(high, 800, 400)
            lost[flow.flow_id] = np.where(high, VIDEO_QUEUE_DROPS_PER_WINDOW, 0)
        elif flow.kind == "probe":
            sent[flow.flow_id] = int(flow.rate_pps or 0)
        elif flow.kind == "filler":
            sent[flow.flow_id] = 1000
            lost[flow.flow_id] = 300
        else:
            sent[flow.flow_id] = 500
    received = sent - lost
    l2_bytes = np.array([[f.l2_bytes] for f in flows])
    parts = []
    for flow in flows:
        if flow.kind == "filler":
            continue
        for window in range(windows):
            count = int(sent[flow.flow_id, window])
            keep = np.arange(count - int(lost[flow.flow_id, window]))
            sequence = int(sent[flow.flow_id, :window].sum()) + keep + 1
            sent_ns = T0_NS + (first_window + window) * WINDOW_NS + keep * (WINDOW_NS // count)
            slow = flow.slice_id == 1 and high[window]
            owd_ms = draw.lognormal(4.2 if slow else 0.0, 0.35, len(keep))
            parts.append((np.full(len(keep), flow.flow_id), sequence, sent_ns, owd_ms * 1e6))
    columns = [np.concatenate([part[i] for part in parts]) for i in range(4)]
    samples = Samples(
        columns[0].astype(np.uint16),
        columns[1].astype(np.uint32),
        columns[2].astype(np.int64),
        columns[3].astype(np.int64),
    )
    down = next(f for f in flows if f.name == "probe-control-ue2-down")
    gap_ns = T0_NS + int(HANDOVER_S * 1e9) + np.array([0, 30_000_000])
    gone = (
        (samples.flow_id == down.flow_id)
        & (samples.sent_ns >= gap_ns[0])
        & (samples.sent_ns < gap_ns[1])
    )
    received[down.flow_id, int(HANDOVER_S) - first_window] -= int(gone.sum())
    totals = np.zeros(len(flows), dtype=TOTALS)
    totals["sent_packets"] = sent.sum(axis=1)
    totals["received_packets"] = received.sum(axis=1)
    return Measurements(
        flows=flows,
        t0_ns=T0_NS,
        first_window=first_window,
        sent_packets=sent,
        sent_bytes=sent * l2_bytes,
        received_packets=received,
        received_bytes=received * l2_bytes,
        totals=totals,
        samples=samples.where(~gone),
        slip={"samples": 300 * windows, "p50_ms": 0.05, "p99_ms": 0.2, "max_ms": 0.9},
        leaks=[],
        tcp=[],
        senders={},
        receivers={},
    )


def decision(at_s: float, **changes: Any) -> DecisionRecord:
    """An applied reservation for video at scenario time `at_s`; keywords replace fields."""
    confirmed_ns = T0_NS + int(at_s * 1e9)
    fields: dict[str, Any] = {
        "decision_id": f"d{at_s}",
        "trace_id": f"t{at_s}",
        "xapp": "slice-planner",
        "action": Action.RESERVE,
        "target": {"cell_id": "ap1"},
        "parameters": {
            "reservations": [
                {"s_nssai": {"sst": 1, "sd": "000001"}, "min_kbps": 8000, "max_kbps": 20_000}
            ]
        },
        "based_on": [],
        "verdict": Verdict.APPLIED,
        "hops_ns": {"received": confirmed_ns - 8_000_000, "confirmed": confirmed_ns},
        "loop_latency_ms": 9.0,
        "effect": Effect.VERIFIED,
    }
    return DecisionRecord.model_validate({**fields, **changes})


def handover(at_s: float = HANDOVER_S, cell_id: str = "ap2") -> DecisionRecord:
    return decision(
        at_s,
        decision_id=f"h{at_s}",
        xapp="a3-handover",
        action=Action.HANDOVER,
        target={"ue_id": "ue2"},
        parameters={"cell_id": cell_id},
        loop_latency_ms=None,
    )


def request(at_s: float, latency_ms: float | None, **changes: Any) -> dict[str, Any]:
    """One request to the task service `assist`, sent at scenario time `at_s`."""
    row = {
        "service": "assist",
        "ue_id": "ue1",
        "request_id": 1,
        "sent_ns": T0_NS + int(at_s * 1e9),
        "latency_ms": latency_ms,
        "host": "edge1" if latency_ms is not None else "",
        "epoch": 1,
    }
    return {**row, **changes}


def user_row(ue_id: str, at_s: float, **changes: Any) -> dict[str, Any]:
    """A report of scenario second `at_s` of a user in slice video at ap1."""
    measured_at_ns = T0_NS + int(at_s * 1e9)
    row: dict[str, Any] = {
        "measured_at_ns": measured_at_ns,
        "window": measured_at_ns // 500_000_000 - 1,
        "period_ms": 500,
        "ue_id": ue_id,
        "kind": "phone",
        "version": int(at_s * 2),
        "cell_id": "ap1",
        "sst": 1,
        "sd": "000001",
        "slice_name": "video",
        "slice_id": 1,
        "demand_kbps": 2000.0,
        "goodput_kbps": 1500.0,
        "loss_ratio": 0.25,
        "owd_p95_ms": 9.0,
        "up_demand_kbps": 0.0,
        "up_goodput_kbps": 0.0,
        "mos": 3.0,
        "rsrp_dbm": -80.0,
        "x_m": 0.0,
        "y_m": 0.0,
        "speed_mps": 0.0,
        "heading_deg": None,
    }
    return {**row, **changes}


def sample_evidence(**changes: Any) -> Evidence:
    """A balanced, valid run of 40 windows; keywords replace fields."""
    measured = changes.pop("measurements", sample_measurements())
    sent, received = measured.totals["sent_packets"], measured.totals["received_packets"]
    lost = {
        s: int(sum((sent - received)[f.flow_id] for f in measured.flows if f.slice_id == s))
        for s in (1, 2, 15)
    }
    fields: dict[str, Any] = {
        "scenario": sample_scenario(),
        "inventory": two_cells(),
        "measurements": measured,
        "load": [
            LoadSample(measured.start_ns + int((i + 1) * 0.5e9), 0.5, 0.4, 0.3)
            for i in range(2 * measured.window_count)
        ],
        "decisions": [
            decision(14.5),
            decision(25.5, effect=Effect.NOT_EXERCISED),
            decision(30.2, verdict=Verdict.REJECTED, reason="over the link's capacity"),
            decision(36.0, effect=Effect.REFUTED),
            handover(),
            handover(33.0, "ap1"),
        ],
        "switches": SwitchCounts(
            slices={s: SwitchTotals(0, lost[s] if s != 15 else 0) for s in lost},
            shared=[SharedQueueDrops(frozenset({15}), lost[15])],
        ),
        "twins": {
            "users": 2,
            "slices": 2,
            "updates_per_s": 4.0,
            "age_ms": {"p50": 250.0, "p95": 480.0, "p99": 500.0},
            "bytes_on_wire": 90_000,
        },
        "versions": {"holon": "0.1.0", "openvswitch": "3.1.0"},
        "delay": "wirefilter",
        "requests": {"rows": [request(10.0, 4.0)], "regressions": {}},
        "user_rows": [user_row("ue1", 10.0)],
        "twin_rows": [{"cell_id": "ap1", "window": 1, "demand_kbps": 4000.0}],
    }
    return replace(Evidence(**fields), **changes)
