"""report.html: a run's figures on one page that opens from disk, without network or script.

Made from summary.json and the tables alone, so that it can be made again at any time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import orjson
from markupsafe import Markup

from topologies.results.charts import colour_of
from topologies.results.evidence import Evidence
from topologies.results.figures import (
    delay_distribution,
    most_mbps,
    sla_strip,
    throughput,
    time_line,
)
from topologies.results.summary import summarise
from topologies.results.tables import read_table, write_tables

_TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_results(folder: Path, evidence: Evidence) -> dict[str, Any]:
    """Everything a run leaves: summary.json, tables, report.html. Returns the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(evidence)
    write_tables(folder, evidence)
    (folder / "summary.json").write_bytes(
        orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n"
    )
    write_report(folder)
    return summary


def write_report(folder: Path) -> Path:
    """Make report.html of a results folder; FileNotFoundError names what is missing."""
    page = folder / "report.html"
    page.write_text(_page(folder))
    return page


def _page(folder: Path) -> str:
    summary = orjson.loads((folder / "summary.json").read_bytes())
    tables = {name: read_table(folder, name) for name in ("cells", "windows", "delays")}
    decisions = read_table(folder, "decisions")
    decisions["target"] = [orjson.loads(target) for target in decisions["target"]]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE.read_text()).render(
        s=summary,
        panels=[Markup(panel) for panel in _panels(summary, tables["cells"])],
        columns=_columns(len(summary["slices"])),
        strip=Markup(sla_strip(tables["windows"], summary["slices"])),
        timeline=Markup(time_line(decisions, summary)),
        delays=Markup(delay_distribution(tables["delays"], summary["slices"])),
        number=_number,
        percent=_percent,
        colour=colour_of,
        names_of=lambda ids: _names(ids, summary),
    )


def _panels(summary: dict[str, Any], cells: dict[str, list[Any]]) -> list[str]:
    """A panel for each bottleneck cell and slice; a slice's panels share their scale."""
    chosen = [c["cell_id"] for c in summary["cells"] if c["bottleneck"]] or [
        c["cell_id"] for c in summary["cells"]
    ]
    return [
        throughput(
            cells,
            cell,
            slice_["name"],
            colour_of(index),
            most_mbps(cells, chosen, slice_["name"]),
        )
        for cell in chosen
        for index, slice_ in enumerate(summary["slices"])
    ]


def _columns(slices: int) -> int:
    """Of the panels: a cell's slices side by side, in rows of two or three when they are many."""
    return slices if slices <= 3 else 3 if slices % 3 == 0 else 2


def _names(slice_ids: list[int], summary: dict[str, Any]) -> str:
    names = {item["slice_id"]: item["name"] for item in summary["slices"]}
    return " + ".join(names.get(slice_id, "filler") for slice_id in slice_ids)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(ratio: float | None, digits: int = 0) -> str:
    return "–" if ratio is None else f"{100 * ratio:.{digits}f} %"
