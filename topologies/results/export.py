"""Writes twins' histories for others to read: SCOPE/ColO-RAN files, or the tables as Parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from topologies.results.scope import COLUMNS, TwinRecords, column_lines, scope_tables
from topologies.results.tables import read_table

README = "README.md"


def records_of_run(folder: Path) -> TwinRecords:
    """Of a finished run; FileNotFoundError names what is missing."""
    summary = orjson.loads((folder / "summary.json").read_bytes())
    return TwinRecords(
        users=_rows(read_table(folder, "user_twins")),
        slices=_rows(read_table(folder, "twins")),
        capacity_kbps={c["cell_id"]: 1000 * c["down_mbps"] for c in summary["cells"]},
        slicing=summary["slicing"],
    )


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_scope(records: TwinRecords, folder: Path) -> list[Path]:
    """`<cell>/<IMSI>_metrics.csv` as in the datasets, and a README about the columns."""
    paths = []
    for (cell_id, imsi), rows in sorted(scope_tables(records).items()):
        path = folder / cell_id / f"{imsi}_metrics.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS))
            writer.writeheader()
            writer.writerows(rows)
        paths.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["| column | computed from |", "|---|---|", *column_lines()]
    (folder / README).write_text("\n".join(lines) + "\n")
    return [*paths, folder / README]


def write_parquet(records: TwinRecords, folder: Path) -> list[Path]:
    """The tables `user_twins` and `twins` as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in (("user_twins", records.users), ("twins", records.slices)):
        paths.append(folder / f"{name}.parquet")
        pa_parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), paths[-1])
    return paths
