"""Aggregates for tests, as a local controller would send them; keywords replace what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.contracts import aggregate_wire
from controller.contracts.inventory import Cell
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from tests.ric_inventory import ric_inventory

NOW_NS = 1_700_000_000_000_000_000
PERIOD_NS = 500_000_000
WINDOW = NOW_NS // PERIOD_NS - 1


def slice_demand(slice_id: int, demand_kbps: float, **changes: Any) -> dict[str, Any]:
    return {
        "slice_id": slice_id,
        "users": 1,
        "demand_kbps": demand_kbps,
        "goodput_kbps": demand_kbps,
        "loss_ratio": 0.0,
        "owd_p95_ms": 3.0,
        **changes,
    }


def sample_aggregate(**changes: Any) -> CellAggregate:
    """Of ap1; its trace id is the one that both ends derive."""
    document: dict[str, Any] = {
        "edge": "edge1",
        "cell_id": "ap1",
        "window": WINDOW,
        "period_ms": 500,
        "completed_at_ns": NOW_NS,
        "sent_at_ns": NOW_NS + 1000,
        "users_reported": 2,
        "users_expected": 2,
        "slices": [slice_demand(1, 4000.0)],
        **changes,
    }
    slices = [SliceDemand.model_validate(d) for d in document.pop("slices")]
    trace_id = aggregate_wire.trace_id_of(
        document["cell_id"], document["window"], document["completed_at_ns"]
    )
    return CellAggregate(trace_id=trace_id, slices=slices, **document)


def datagram_of(*aggregates: CellAggregate, cells: Sequence[Cell] | None = None) -> bytes:
    """`cells`: the inventory's of the RIC under test; None: of `ric_inventory()`."""
    known = ric_inventory().cells if cells is None else cells
    (datagram,) = aggregate_wire.encode(aggregates, known)
    return datagram
