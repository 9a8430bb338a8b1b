"""summary.json's contract and the tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.sample_evidence import decision, sample_evidence, sample_measurements
from topologies.results.report import write_report, write_results
from topologies.results.summary import summarise
from topologies.results.tables import NAMES, read_table

EVIDENCE = sample_evidence()
SUMMARY = summarise(EVIDENCE)


def slice_named(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(s for s in summary["slices"] if s["name"] == name)


def test_keys_of_the_contract() -> None:
    assert set(SUMMARY) >= {
        "scenario", "seed", "policy", "duration_s", "versions", "datapath", "delay", "validity",
        "slices", "loop_latency_ms", "decisions", "handovers", "migrations", "twins",
    }  # fmt: skip
    assert set(SUMMARY["validity"]) == {
        "verdict", "reasons", "cpu_busy_ratio", "vswitchd_busy_ratio", "timer_slip_p99_ms",
    }  # fmt: skip
    assert set(SUMMARY["slices"][0]) >= {
        "s_nssai", "name", "goodput_mbps", "l2_rate_mbps", "offered_mbps", "loss_ratio", "owd_ms",
        "rtt_ms", "sla", "sla_satisfied_ratio", "reserved_mbps", "leaked_frames",
    }  # fmt: skip
    assert set(SUMMARY["slices"][0]["owd_ms"]) == {"p50", "p95", "p99", "p999"}
    assert set(SUMMARY["loop_latency_ms"]) >= {"p50", "p99", "samples"}
    assert set(SUMMARY["decisions"]) >= {
        "applied", "rejected", "superseded", "verified", "refuted", "not_exercised", "by_action",
    }  # fmt: skip
    assert set(SUMMARY["handovers"]) >= {"count", "interruption_ms", "lost_packets"}
    assert set(SUMMARY["migrations"]) >= {"count", "downtime_ms", "state_bytes", "lost_requests"}
    assert set(SUMMARY["twins"]) >= {"users", "slices", "updates_per_s", "age_ms", "bytes_on_wire"}
    assert orjson.loads(orjson.dumps(SUMMARY)) == SUMMARY


def test_figures_of_the_sample() -> None:
    video, control = slice_named(SUMMARY, "video"), slice_named(SUMMARY, "control")
    # Half of the windows offer 800, half 400 packets of 1200 B; the busy ones lose 20.
    assert video["offered_mbps"] == pytest.approx(600 * 1200 * 8 / 1e6)
    assert video["goodput_mbps"] == pytest.approx(590 * 1200 * 8 / 1e6)
    assert video["loss_ratio"] == pytest.approx(400 / (600 * 40 + 4000))
    assert video["sla_satisfied_ratio"] == 0.5
    assert control["sla"]["satisfied_ratio"] == {"goodput": 1.0, "delay": 1.0, "loss": 0.975}
    # 6 Mbit/s until 14.5 s, 8 after: (9.5 * 6 + 30.5 * 8) / 40.
    assert video["reserved_mbps"] == pytest.approx((9.5 * 6 + 30.5 * 8) / 40)
    assert control["reserved_mbps"] == 2.0
    assert SUMMARY["validity"]["verdict"] == "valid"
    assert SUMMARY["handovers"]["lost_packets"] == 3


def test_decisions_outside_the_window_do_not_count() -> None:
    evidence = sample_evidence(decisions=[decision(4.9), decision(5.0), decision(45.0)])
    summary = summarise(evidence)
    assert summary["decisions"]["applied"] == 1
    assert summary["decisions"]["by_action"]["reserve"]["applied"] == 1
    assert summary["loop_latency_ms"]["samples"] == 1


def test_reservation_made_before_the_window_holds_in_it() -> None:
    summary = summarise(sample_evidence(decisions=[decision(4.0)]))
    assert slice_named(summary, "video")["reserved_mbps"] == 8.0


def test_leaks_count_for_the_slice_of_the_frame() -> None:
    leaks = [{"host": "ue1", "frames_by_slice": {"2": 3, "-1": 1}, "examples": []}]
    measured = replace(sample_measurements(), leaks=leaks)
    summary = summarise(sample_evidence(measurements=measured))
    assert slice_named(summary, "control")["leaked_frames"] == 3
    assert slice_named(summary, "video")["leaked_frames"] == 0
    assert summary["leaks"]["unknown_slice_frames"] == 1


def test_missing_switch_counters_make_the_run_invalid() -> None:
    summary = summarise(sample_evidence(switches=None))
    assert summary["validity"]["verdict"] == "invalid"
    assert summary["balance"] is None


def test_tables_as_parquet_and_csv(tmp_path: Path) -> None:
    write_results(tmp_path, EVIDENCE)
    for name in NAMES:
        columns = read_table(tmp_path, name)
        with (tmp_path / f"{name}.csv").open() as file:
            header, *rows = list(csv.reader(file))
        assert header == list(columns), name
        assert len(rows) == len(next(iter(columns.values()))) > 0, name
    probes = read_table(tmp_path, "probes")
    assert len(probes["flow"]) == 300 * 40 - 3
    assert set(probes["slice"]) == {"video", "control"}


def test_report_is_made_again_from_files_alone(tmp_path: Path) -> None:
    write_results(tmp_path, EVIDENCE)
    first = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_text() == first
    assert "http" not in first.replace("http-equiv", "")
    assert "<script" not in first


def test_report_without_tables_names_what_is_missing(tmp_path: Path) -> None:
    write_results(tmp_path, EVIDENCE)
    (tmp_path / "cells.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"cells\.parquet"):
        write_report(tmp_path)


def test_run_without_packets_is_still_reported(tmp_path: Path) -> None:
    measured = sample_measurements(windows=10)
    nothing = replace(
        measured,
        **{
            name: getattr(measured, name) * 0
            for name in ("sent_packets", "sent_bytes", "received_packets", "received_bytes")
        },
        totals=np.zeros_like(measured.totals),
        samples=measured.samples.where(measured.samples.sent_ns < 0),
    )
    summary = write_results(tmp_path, sample_evidence(measurements=nothing, decisions=[]))
    video = slice_named(summary, "video")
    assert video["loss_ratio"] is None
    assert video["owd_ms"]["p99"] is None
