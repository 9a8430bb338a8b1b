"""A run's summary.json as a table on the terminal, and several of them side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topologies.cli import terminal
from topologies.cli.errors import CommandRefused

Summary = dict[str, Any]


def read_summary(folder: Path) -> Summary:
    path = folder / "summary.json"
    try:
        summary: Summary = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandRefused(
            f"{path}: {error.strerror}; give the folder that `./testbed.sh run --out DIR` wrote"
        ) from error
    except ValueError as error:
        raise CommandRefused(f"{path}: not JSON ({error})") from error
    return summary


def print_summary(summary: Summary) -> None:
    """What each slice got, then the loop, decisions, handovers and the validity verdict."""
    print(
        f"\n{summary['scenario']}: policy {summary['policy']}, seed {summary['seed']}, "
        f"{summary['duration_s']:g} s measured, {summary['datapath']} datapath"
    )
    print_slices(summary["slices"])
    print()
    for line in _lines(summary):
        print(line)


def print_slices(slices: Sequence[dict[str, Any]]) -> None:
    """One line a slice, as narrow as a terminal."""
    rows = [_slice_row(slice_) for slice_ in slices]
    terminal.print_table(tuple(rows[0]) if rows else (), rows)
    print("rates in Mbit/s; one-way delay; SLA %: share of 1 s windows in which the SLA held")


def _slice_row(slice_: dict[str, Any]) -> dict[str, str]:
    delay = slice_.get("owd_ms") or {}
    return {
        "slice": slice_["name"],
        "S-NSSAI": terminal.cell(slice_["s_nssai"]),
        "offered": _number(slice_["offered_mbps"], 2),
        "goodput": _number(slice_["goodput_mbps"], 2),
        "reserved": _number(slice_["reserved_mbps"], 2),
        "lost %": _percent(slice_["loss_ratio"]),
        "p50 ms": _number(delay.get("p50"), 2),
        "p99 ms": _number(delay.get("p99"), 2),
        "SLA %": _percent(slice_["sla_satisfied_ratio"]),
        "leaked": str(slice_["leaked_frames"]),
    }


def _lines(summary: Summary) -> list[str]:
    loop, decisions = summary["loop_latency_ms"], summary["decisions"]
    validity = summary["validity"]
    reasons = f": {'; '.join(validity['reasons'])}" if validity["reasons"] else ""
    return [
        f"loop latency: p50 {_number(loop['p50'], 1)}, p99 {_number(loop['p99'], 1)} ms "
        f"({loop['samples']} samples)",
        f"decisions: {decisions['applied']} applied, {decisions['rejected']} rejected, "
        f"{decisions['superseded']} superseded; effect: {decisions['verified']} verified, "
        f"{decisions['refuted']} refuted, {decisions['not_exercised']} not exercised",
        f"handovers: {summary['handovers']['count']}, "
        f"{summary['handovers']['lost_packets']} probes lost",
        f"validity: {validity['verdict']}{reasons}",
    ]


def compared(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per run and slice."""
    rows = []
    for folder in folders:
        summary = read_summary(folder)
        for slice_ in summary["slices"]:
            rows.append(
                {
                    "run": folder.name,
                    "scenario": summary["scenario"],
                    "policy": summary["policy"],
                    "seed": summary["seed"],
                    "validity": summary["validity"]["verdict"],
                    "slice": slice_["name"],
                    "goodput_mbps": slice_["goodput_mbps"],
                    "reserved_mbps": slice_["reserved_mbps"],
                    "loss_ratio": slice_["loss_ratio"],
                    "owd_p99_ms": (slice_.get("owd_ms") or {}).get("p99"),
                    "sla_satisfied_ratio": slice_["sla_satisfied_ratio"],
                }
            )
    return rows


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f}"
