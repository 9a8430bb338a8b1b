"""Twins' histories in the columns of the SCOPE and ColO-RAN datasets. Pure.

Those are logs of a real scheduler; what an emulation by queues and meters has no source for is
left empty.  `COLUMNS` says of each column what it is computed from, and docs/export.md shows it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PRBS = 100
"""There are no resource blocks here: one stands for a hundredth of a cell's downlink rate."""
TEST_PLMN = "00101"

Row = Mapping[str, Any]

COLUMNS: dict[str, str] = {
    "Timestamp": "ms since 1970 at which the user's report was measured",
    "num_ues": "users of that cell with a report of the same period",
    "IMSI": f"{TEST_PLMN} (the test network) and the user's place among all, from 1",
    "RNTI": "",
    "slicing_enabled": "1, or 0 in a run without slices",
    "slice_id": "sst-sd of the slice; a user of two slices has two rows a report",
    "slice_prb": f"{PRBS} x (the slice's guaranteed rate / the cell's rate), newest before the row",
    "scheduling_policy": "",
    "dl_buffer [bytes]": "",
    "tx_brate downlink [Mbps]": "demand_kbps x (1 - loss_ratio) of the user in the slice, L2",
    "tx_pkts downlink": "",
    "tx_errors downlink (%)": "100 x loss_ratio of the user in the slice",
    "sum_requested_prbs": f"{PRBS} x (demand_kbps / the cell's rate)",
    "sum_granted_prbs": f"{PRBS} x (demand_kbps x (1 - loss_ratio) / the cell's rate)",
}
"""Column -> what it is computed from; empty: nothing here, so the column is empty."""


@dataclass(frozen=True)
class TwinRecords:
    """`users`: rows of the table `user_twins`; `slices`: of `twins`, oldest first."""

    users: Sequence[Row]
    slices: Sequence[Row]
    capacity_kbps: Mapping[str, float]
    slicing: bool


def imsis(users: Iterable[Row]) -> dict[str, str]:
    """ue_id -> IMSI, 15 digits."""
    names = sorted({row["ue_id"] for row in users})
    return {name: f"{TEST_PLMN}{place:010d}" for place, name in enumerate(names, 1)}


def scope_tables(records: TwinRecords) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(cell, IMSI) -> its rows, as the datasets have a file for each."""
    names = imsis(records.users)
    present: dict[tuple[Any, ...], set[str]] = {}
    for row in records.users:
        present.setdefault(_moment(row), set()).add(row["ue_id"])
    guaranteed = Guaranteed(records.slices)
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in records.users:
        capacity_kbps = records.capacity_kbps[row["cell_id"]]
        got_kbps = row["demand_kbps"] * (1 - row["loss_ratio"])
        imsi = names[row["ue_id"]]
        min_kbps = guaranteed.kbps(row)
        values: dict[str, Any] = {
            "Timestamp": row["measured_at_ns"] // 1_000_000,
            "num_ues": len(present[_moment(row)]),
            "IMSI": imsi,
            "slicing_enabled": int(records.slicing),
            "slice_id": f"{row['sst']}-{row['sd']}",
            "slice_prb": None if min_kbps is None else _prbs(min_kbps, capacity_kbps),
            "tx_brate downlink [Mbps]": round(got_kbps / 1000, 6),
            "tx_errors downlink (%)": round(100 * row["loss_ratio"], 4),
            "sum_requested_prbs": _prbs(row["demand_kbps"], capacity_kbps),
            "sum_granted_prbs": _prbs(got_kbps, capacity_kbps),
        }
        full = {column: values.get(column) for column in COLUMNS}
        tables.setdefault((row["cell_id"], imsi), []).append(full)
    return tables


class Guaranteed:
    """What each slice held reserved in each cell, by time."""

    def __init__(self, slices: Iterable[Row]) -> None:
        self._held: dict[tuple[Any, ...], list[tuple[int, float | None]]] = {}
        for row in slices:
            key = (row["cell_id"], row["sst"], row["sd"])
            self._held.setdefault(key, []).append((row["received_at_ns"], row["min_kbps"]))

    def kbps(self, row: Row) -> float | None:
        """The newest that was known when the row was measured; None before the first."""
        held = self._held.get((row["cell_id"], row["sst"], row["sd"]), [])
        place = bisect_right(held, row["measured_at_ns"], key=lambda entry: entry[0])
        return held[place - 1][1] if place else None


def _moment(row: Row) -> tuple[Any, ...]:
    return row["cell_id"], row["period_ms"], row["window"]


def _prbs(kbps: float, capacity_kbps: float) -> float:
    return round(PRBS * kbps / capacity_kbps, 4)


def column_lines() -> list[str]:
    """A line of Markdown for each column."""
    return [
        f"| `{name}` | {source or '*empty: the emulation has no source for it*'} |"
        for name, source in COLUMNS.items()
    ]
