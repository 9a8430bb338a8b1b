"""A summary on the terminal, and several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLUMNS = ("offered", "goodput", "reserved", "lost %", "p50 ms", "p99 ms", "SLA %", "leaks")
"""Rates in Mbit/s; one-way delay."""
_COMPARED = ("goodput", "reserved", "lost %", "p99 ms", "SLA %")
_LOOK: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def render_table(summary: dict[str, Any]) -> RenderableType:
    """What each slice got, the loop, the decisions, the handovers and the verdict."""
    table = Table(title=_title(summary), title_justify="left", title_style="bold", **_LOOK)
    table.add_column("slice", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for slice_ in summary["slices"]:
        table.add_row(slice_["name"], *_figures(slice_))
    loop, decisions, handovers = (
        summary[key] for key in ("loop_latency_ms", "decisions", "handovers")
    )
    words = (
        f"loop latency p50 {_number(loop['p50'], 1)} ms, p99 {_number(loop['p99'], 1)} ms "
        f"({loop['samples']} decisions); {decisions['applied']} applied, "
        f"{decisions['rejected']} rejected; {decisions['verified']} verified, "
        f"{decisions['refuted']} refuted, {decisions['not_exercised']} not exercised; "
        f"{handovers['count']} handovers, {handovers['lost_packets']} probes lost"
    )
    return Group(table, Text(words), _verdict(summary["validity"]))


def render_comparison(summaries: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """A row for each run and slice, in the order given."""
    table = Table(**_LOOK)
    table.add_column("run", overflow="fold")
    for name in ("policy", "seed", "verdict", "slice"):
        table.add_column(name, no_wrap=True)
    for name in _COMPARED:
        table.add_column(name, justify="right", no_wrap=True)
    for name, summary in summaries:
        run = [name, summary["policy"], str(summary["seed"]), summary["validity"]["verdict"]]
        for index, slice_ in enumerate(summary["slices"]):
            figures = dict(zip(_COLUMNS, _figures(slice_), strict=True))
            table.add_row(
                *(run if index == 0 else [""] * 4),
                slice_["name"],
                *(figures[column] for column in _COMPARED),
                end_section=index == len(summary["slices"]) - 1,
            )
    return table


def compare(folders: Sequence[Path]) -> Table:
    """`render_comparison` of results folders; FileNotFoundError when one has no summary.json."""
    return render_comparison(
        [(f.name, orjson.loads((f / "summary.json").read_bytes())) for f in folders]
    )


def _title(summary: dict[str, Any]) -> str:
    return (
        f"{summary['scenario']} · policy {summary['policy']} · seed {summary['seed']} · "
        f"{summary['duration_s']} s · Mbit/s"
    )


def _figures(slice_: dict[str, Any]) -> list[str]:
    return [
        _number(slice_["offered_mbps"], 2),
        _number(slice_["goodput_mbps"], 2),
        _number(slice_["reserved_mbps"], 2),
        _percent(slice_["loss_ratio"], 2),
        _number(slice_["owd_ms"]["p50"], 2),
        _number(slice_["owd_ms"]["p99"], 2),
        _percent(slice_["sla_satisfied_ratio"], 1),
        str(slice_["leaked_frames"]),
    ]


def _verdict(validity: dict[str, Any]) -> Text:
    style = "green" if validity["verdict"] == "valid" else "bold red"
    lines = [validity["verdict"], *(f"  {reason}" for reason in validity["reasons"])]
    return Text("\n".join(lines), style=style)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(ratio: float | None, digits: int) -> str:
    return "-" if ratio is None else f"{100 * ratio:.{digits}f}"
