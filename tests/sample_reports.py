"""User reports for tests, as an agent would send them; keywords replace what differs."""

from __future__ import annotations

from typing import Any

import orjson

from controller.contracts.twin_messages import FlowReport, UserReport

PERIOD_MS = 500
PERIOD_NS = PERIOD_MS * 1_000_000
T0_NS = 4_000 * PERIOD_NS
"""End of window 3999, whose report `sample_report()` is."""


def sample_flow(**changes: Any) -> FlowReport:
    flow: dict[str, Any] = {
        "service": "stream",
        "slice_id": 1,
        "up": False,
        "demand_kbps": 1000.0,
        "goodput_kbps": 900.0,
        "loss_ratio": 0.1,
        "owd_p95_ms": 4.0,
    }
    return FlowReport(**{**flow, **changes})


def sample_report(window: int = 3999, **changes: Any) -> UserReport:
    """Of ue1 in cell ap1 with one flow in slice 1, measured at the end of `window`."""
    period_ms = changes.get("period_ms", PERIOD_MS)
    report: dict[str, Any] = {
        "ue_id": "ue1",
        "kind": "phone",
        "sequence": window,
        "window": window,
        "measured_at_ns": (window + 1) * period_ms * 1_000_000,
        "period_ms": period_ms,
        "cell_id": "ap1",
        "rsrp_dbm": {"ap1": -80.0},
        "position_m": (1.0, 2.0),
        "speed_mps": 3.0,
        "flows": (sample_flow(),),
    }
    merged = {**report, **changes}
    return UserReport(**{**merged, "flows": list(merged["flows"])})


def encoded(report: UserReport) -> bytes:
    return orjson.dumps(report.model_dump(mode="json"))
