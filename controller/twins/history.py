"""History of twins: bounded rings in memory, tables on disk at the end of a run.

Rings answer the API; the table keeps a row per (window, cell, slice) for the
run's results.  Both drop their oldest entries; the table says how many.
pyarrow is imported only when a table is written: it costs tens of megabytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

TABLE_ROWS_MAX = 200_000


class Point(NamedTuple):
    """One value of one attribute.  `window`: floor(measured_at / period)."""

    window: int
    measured_at_ns: int
    value: float | None


class History:
    """Rings of the last `length` points of every attribute of every twin."""

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"history length {length}: at least 1 point")
        self._length = length
        self._lengths: dict[tuple[str, str], int] = {}
        self._rings: dict[tuple[str, str, str], deque[Point]] = {}

    def set_length(self, kind: str, twin_id: str, length: int) -> None:
        """Of this twin's attributes, from now on; the oldest points beyond it go at once."""
        if length < 1:
            raise ValueError(f"history length {length}: at least 1 point")
        if self._lengths.get((kind, twin_id), self._length) == length:
            return
        self._lengths[kind, twin_id] = length
        for key, ring in self._rings.items():
            if key[:2] == (kind, twin_id):
                self._rings[key] = deque(ring, maxlen=length)

    def record(self, kind: str, twin_id: str, attribute: str, point: Point) -> None:
        """A point of the same window replaces the last one; the same measurement adds none."""
        key = (kind, twin_id, attribute)
        ring = self._rings.get(key)
        if ring is None:
            length = self._lengths.get((kind, twin_id), self._length)
            ring = self._rings[key] = deque(maxlen=length)
        if ring and ring[-1].measured_at_ns == point.measured_at_ns:
            return
        if ring and ring[-1].window == point.window:
            ring.pop()
        ring.append(point)

    def last(self, kind: str, twin_id: str, attribute: str, count: int) -> list[Point]:
        """Oldest first; empty when nothing was recorded under that name."""
        ring = self._rings.get((kind, twin_id, attribute), ())
        return list(ring)[-count:] if count > 0 else []

    def attributes(self, kind: str, twin_id: str) -> list[str]:
        return sorted(a for k, i, a in self._rings if (k, i) == (kind, twin_id))


@dataclass(frozen=True)
class TwinRow:
    """A slice in a cell in a window, as its twin had it; rates in L2 kbit/s.

    demand, goodput, loss, delay: from users' twins.  arrived, delivered: from the
    switch's counters, the latest at that time.  predicted: the latest forecast.
    """

    trace_id: str
    window: int
    period_ms: int
    completed_at_ns: int
    sent_at_ns: int
    received_at_ns: int
    cell_id: str
    slice_id: int
    sst: int
    sd: str
    slice_name: str
    traffic_class: str
    users: int
    users_reported: int
    users_expected: int
    demand_kbps: float
    goodput_kbps: float
    loss_ratio: float
    owd_p95_ms: float | None
    arrived_kbps: float | None
    delivered_kbps: float | None
    min_kbps: int | None
    max_kbps: int | None
    predicted_kbps: float | None


class TwinTable:
    """Rows of the run, the newest `TABLE_ROWS_MAX`; `dropped_rows` counts the rest."""

    def __init__(self, rows_max: int = TABLE_ROWS_MAX) -> None:
        self._rows: deque[TwinRow] = deque(maxlen=rows_max)
        self.dropped_rows = 0

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: TwinRow) -> None:
        self.dropped_rows += len(self._rows) == self._rows.maxlen
        self._rows.append(row)

    def rows(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [asdict(row) for row in self._rows]

    def flush(self, folder: Path) -> list[Path]:
        """Writes twins.parquet and twins.csv; the rows stay."""
        return write_table(self.rows(), column_types(TwinRow), folder, "twins")


def column_types(row_type: type[Any]) -> dict[str, str]:
    """Column -> 'string' | 'int64' | 'double', from a row dataclass's annotations."""
    arrow = {"str": "string", "int": "int64", "float": "double", "bool": "bool"}
    return {f.name: arrow[str(f.type).removesuffix(" | None")] for f in fields(row_type)}


def write_table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], folder: Path, name: str
) -> list[Path]:
    """Writes `name`.parquet and `name`.csv with exactly `columns`, also without any row.

    OSError when the disk does not take them; then neither is there.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pa_parquet

    schema = pa.schema([(column, pa.type_for_alias(alias)) for column, alias in columns.items()])
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.parquet", folder / f"{name}.csv"]
    try:
        pa_parquet.write_table(table, paths[0])
        pa_csv.write_csv(table, paths[1])
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)  # half a table is none
        raise
    return paths
