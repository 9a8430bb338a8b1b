"""Export: SCOPE's columns, each from what docs/export.md says, and the tables of a run."""

from __future__ import annotations

import csv
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pa_parquet

from controller.twins.report_values import UserRow
from tests.conftest import REPOSITORY
from tests.sample_evidence import T0_NS, sample_evidence, user_row
from topologies.results.export import records_of_run, write_parquet, write_scope
from topologies.results.report import write_results
from topologies.results.scope import COLUMNS, TwinRecords, column_lines, scope_tables
from topologies.results.tables import USER_TWIN_SCHEMA


def slice_row(at_s: float, min_kbps: int) -> dict[str, Any]:
    return {
        "cell_id": "ap1",
        "sst": 1,
        "sd": "000001",
        "received_at_ns": T0_NS + int(at_s * 1e9),
        "min_kbps": min_kbps,
    }


def records() -> TwinRecords:
    users = [user_row("ue1", 10.0), user_row("ue2", 10.1), user_row("ue2", 10.6, cell_id="ap2")]
    slices = [slice_row(5.0, 4000), slice_row(10.05, 5000)]
    return TwinRecords(users, slices, {"ap1": 20_000.0, "ap2": 10_000.0}, True)


def test_the_tables_columns_are_the_rows() -> None:
    assert USER_TWIN_SCHEMA.names == [f.name for f in fields(UserRow)] == list(user_row("ue1", 0))


def test_each_column_is_computed_as_documented() -> None:
    tables = scope_tables(records())
    assert set(tables) == {
        ("ap1", "001010000000001"),
        ("ap1", "001010000000002"),
        ("ap2", "001010000000002"),
    }
    (row,) = tables["ap1", "001010000000001"]
    assert list(row) == list(COLUMNS)
    assert row["Timestamp"] == T0_NS // 1_000_000 + 10_000
    assert row["num_ues"] == 2
    assert (row["slicing_enabled"], row["slice_id"]) == (1, "1-000001")
    assert row["slice_prb"] == 20  # 4,000 of 20,000: what was known when it was measured
    assert row["tx_brate downlink [Mbps]"] == 1.5
    assert row["tx_errors downlink (%)"] == 25
    assert (row["sum_requested_prbs"], row["sum_granted_prbs"]) == (10, 7.5)
    empty = {name for name, source in COLUMNS.items() if not source}
    assert {name for name, value in row.items() if value is None} == empty
    (second,) = tables["ap1", "001010000000002"]
    assert second["slice_prb"] == 25
    (elsewhere,) = tables["ap2", "001010000000002"]
    assert elsewhere["slice_prb"] is None  # nothing is known of its cell


def test_the_page_about_the_columns_is_the_tables() -> None:
    page = (REPOSITORY / "docs" / "export.md").read_text()
    assert "\n".join(column_lines()) in page


def test_a_finished_run_is_exported(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    rows = [user_row("ue1", 10.0), user_row("ue1", 10.5)]
    twins = [{**slice_row(5.0, 4000)}]
    write_results(run, sample_evidence(user_rows=rows, twin_rows=twins))
    paths = write_scope(records_of_run(run), out)
    assert paths[-1].name == "README.md"
    with (out / "ap1" / "001010000000001_metrics.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["tx_brate downlink [Mbps]"] for row in read] == ["1.5", "1.5"]
    assert {row["RNTI"] for row in read} == {""}
    write_parquet(records_of_run(run), out)
    assert pa_parquet.read_table(out / "user_twins.parquet").num_rows == 2
