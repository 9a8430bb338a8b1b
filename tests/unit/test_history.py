"""History: bounded rings, one point per window, and tables that read back as written."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pa_parquet
import pytest

from controller.twins.history import History, Point, TwinRow, TwinTable, column_types, write_table


def row(window: int) -> TwinRow:
    return TwinRow(
        trace_id=f"t{window}",
        window=window,
        period_ms=500,
        completed_at_ns=window * 500_000_000,
        sent_at_ns=window * 500_000_000,
        received_at_ns=window * 500_000_000 + 1,
        cell_id="ap1",
        slice_id=1,
        sst=1,
        sd="000001",
        slice_name="video",
        traffic_class="elastic",
        users=2,
        users_reported=2,
        users_expected=2,
        demand_kbps=1000.5,
        goodput_kbps=900.0,
        loss_ratio=0.0,
        owd_p95_ms=None,
        arrived_kbps=None,
        delivered_kbps=None,
        min_kbps=8000,
        max_kbps=20_000,
        predicted_kbps=None,
    )


def test_a_ring_keeps_the_newest() -> None:
    history = History(3)
    for window in range(5):
        history.record("cell", "ap1", "users", Point(window, window * 10 + 1, float(window)))
    assert [p.value for p in history.last("cell", "ap1", "users", 10)] == [2.0, 3.0, 4.0]
    assert [p.value for p in history.last("cell", "ap1", "users", 2)] == [3.0, 4.0]
    assert history.last("cell", "ap1", "users", 0) == []
    assert history.last("cell", "ap2", "users", 5) == []
    assert history.attributes("cell", "ap1") == ["users"]


def test_a_window_has_one_point_and_a_measurement_counts_once() -> None:
    history = History(10)
    for point in (Point(1, 100, 1.0), Point(1, 150, 2.0), Point(2, 150, 2.0), Point(3, 300, None)):
        history.record("slice", "1-000001", "demand_kbps", point)
    points = history.last("slice", "1-000001", "demand_kbps", 10)
    assert points == [Point(1, 150, 2.0), Point(3, 300, None)]


def test_a_ring_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 point"):
        History(0)


def test_the_table_reads_back_in_both_formats(tmp_path: Path) -> None:
    table = TwinTable()
    for window in range(3):
        table.append(row(window))
    paths = table.flush(tmp_path / "results")
    assert [path.name for path in paths] == ["twins.parquet", "twins.csv"]
    parquet = pa_parquet.read_table(paths[0]).to_pylist()
    assert parquet[2]["trace_id"] == "t2"
    assert parquet[2]["demand_kbps"] == 1000.5
    assert parquet[2]["owd_p95_ms"] is None
    with paths[1].open() as file:
        lines = list(csv.DictReader(file))
    assert [line["window"] for line in lines] == ["0", "1", "2"]
    assert lines[0].keys() == column_types(TwinRow).keys()


def test_an_empty_table_still_has_its_columns(tmp_path: Path) -> None:
    paths = TwinTable().flush(tmp_path)
    assert pa_parquet.read_table(paths[0]).column_names == list(column_types(TwinRow))
    assert paths[1].read_text().startswith('"trace_id","window"')


def test_dropped_rows_are_counted(tmp_path: Path) -> None:
    table = TwinTable(rows_max=2)
    for window in range(5):
        table.append(row(window))
    assert table.dropped_rows == 3
    assert len(table) == 2
    assert pa_parquet.read_table(table.flush(tmp_path)[0])["window"].to_pylist() == [3, 4]


def test_a_column_that_no_row_has_is_null(tmp_path: Path) -> None:
    paths = write_table([{"a": 1}], {"a": "int64", "b": "string"}, tmp_path, "odd")
    assert pa_parquet.read_table(paths[0]).to_pylist() == [{"a": 1, "b": None}]
