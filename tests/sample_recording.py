"""A recorded run for tests of replay: two cells, two slices, half a minute of swinging demand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from controller.contracts.decisions import Action, DecisionRecord, Verdict
from controller.contracts.inventory import Inventory
from controller.ric.decision_log import TABLE_COLUMNS, table_row
from controller.twins.history import TwinRow, TwinTable, write_table
from tests.ric_inventory import CAPACITY_KBPS, ric_inventory

FIRST_WINDOW = 3_500_000_000
PERIOD_MS = 500
WINDOWS = 30


def arrived_ns(window: int, cell: int) -> int:
    return (window + 1) * PERIOD_MS * 1_000_000 + 20_000_000 + cell * 7_000_000


def write_recording(folder: Path, **changes: Any) -> Inventory:
    """As `./testbed.sh run` leaves it behind, as far as a replay reads it."""
    inventory = ric_inventory(**changes)
    folder.mkdir(parents=True)
    (folder / "inventory.json").write_text(inventory.model_dump_json())
    table = TwinTable()
    for window in range(FIRST_WINDOW, FIRST_WINDOW + WINDOWS):
        for cell, cell_id in enumerate(("ap1", "ap2")):
            for slice_id in (1, 2):
                table.append(twin_row(window, cell, cell_id, slice_id))
    table.flush(folder)
    write_table([table_row(r) for r in records()], TABLE_COLUMNS, folder, "decisions")
    return inventory


def twin_row(window: int, cell: int, cell_id: str, slice_id: int) -> TwinRow:
    is_high = (window + 5 * cell) % 12 < 6
    demand_kbps = {1: 9000.25 if is_high else 2500.5, 2: 1500.0 if is_high else 600.0}[slice_id]
    received_ns = arrived_ns(window, cell)
    return TwinRow(
        trace_id=f"t-{cell_id}-{window}",
        window=window,
        period_ms=PERIOD_MS,
        completed_at_ns=received_ns - 3_000_000,
        sent_at_ns=received_ns - 2_500_000,
        received_at_ns=received_ns,
        cell_id=cell_id,
        slice_id=slice_id,
        sst=slice_id,
        sd=f"00000{slice_id}",
        slice_name={1: "video", 2: "control"}[slice_id],
        traffic_class={1: "elastic", 2: "real_time"}[slice_id],
        users=1,
        users_reported=2,
        users_expected=2,
        demand_kbps=demand_kbps,
        goodput_kbps=demand_kbps,
        loss_ratio=0.0,
        owd_p95_ms=4.5,
        arrived_kbps=demand_kbps,
        delivered_kbps=demand_kbps,
        min_kbps={1: 6000, 2: 2000}[slice_id],
        max_kbps={1: CAPACITY_KBPS, 2: 2000}[slice_id],
        predicted_kbps=None,
    )


def records() -> list[DecisionRecord]:
    """A handover by the testbed itself, and a plan of another xApp."""
    at_ns = arrived_ns(FIRST_WINDOW + 10, 0) + 1_000_000
    handover = DecisionRecord(
        decision_id="d-handover",
        trace_id="t-handover",
        xapp="a3-handover",
        action=Action.HANDOVER,
        target={"ue_id": "ue1"},
        parameters={"cell_id": "ap2"},
        based_on=[],
        verdict=Verdict.APPLIED,
        hops_ns={"received": at_ns, "confirmed": at_ns},
    )
    plan = handover.model_copy(
        update={
            "decision_id": "d-plan",
            "xapp": "other-planner",
            "action": Action.RESERVE,
            "target": {"cell_id": "ap1"},
            "parameters": json.loads('{"reservations": []}'),
        }
    )
    return [handover, plan]
