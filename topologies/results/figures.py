"""The report's figures, each from the tables of a run to one SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from topologies.results.charts import (
    BAD,
    GOOD,
    GRID,
    INK,
    MUTED,
    Frame,
    area,
    colour_of,
    line,
    marker,
    steps,
    svg,
    text,
    vertical,
    x_axis,
    y_axis,
)

HALO = "paint-order: stroke; stroke: white; stroke-width: 4px"
"""Words that may stand on a line stay readable."""
Table = dict[str, list[Any]]
Row = dict[str, Any]


def rows_of(table: Table, **equal: Any) -> list[Row]:
    """Rows whose columns have these values."""
    columns = list(table)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*table.values(), strict=True)]
    return [row for row in rows if all(row[key] == value for key, value in equal.items())]


def throughput(cells: Table, cell_id: str, slice_name: str, colour: str, y_max: float) -> str:
    """One cell and slice over time: offered, delivered, reserved (L2 Mbit/s)."""
    rows = rows_of(cells, cell_id=cell_id, slice=slice_name)
    starts = [float(row["window"]) for row in rows]
    frame = Frame(380, 176, starts[0], starts[-1] + 1, 0, y_max)
    middles = [frame.x(s + 0.5) for s in starts]
    delivered = [(x, frame.y(r["delivered_mbps"])) for x, r in zip(middles, rows, strict=True)]
    offered = [(x, frame.y(r["offered_mbps"])) for x, r in zip(middles, rows, strict=True)]
    reserved = steps(frame, starts, [r["reserved_mbps"] for r in rows], 1)
    return svg(
        frame,
        f"{slice_name} in {cell_id}: offered, delivered and reserved over time",
        y_axis(frame),
        x_axis(frame, "s", 4),
        area(delivered, frame.y(0), colour),
        line(offered, MUTED, 1.4, "2 3"),
        line(delivered, colour, 2.2),
        line(reserved, INK, 1.6, "7 3"),
        text(frame.left, 15, slice_name, style="font-weight:600", colour=INK),
        text(frame.width - frame.right, 15, f"{cell_id} · Mbit/s", "end"),
    )


def most_mbps(cells: Table, cell_ids: Sequence[str], slice_name: str) -> float:
    """Upper end of the y axis shared by a slice's panels."""
    names = ("offered_mbps", "delivered_mbps", "reserved_mbps")
    values = [
        row[name]
        for cell_id in cell_ids
        for row in rows_of(cells, cell_id=cell_id, slice=slice_name)
        for name in names
    ]
    return max(0.1, 1.08 * max(values, default=0.1))


def delay_distribution(delays: Table, slices: Sequence[Row]) -> str:
    """Share of packets later than a delay, both axes logarithmic, with each SLA's bound."""
    known = [value for value in delays["owd_ms"] if value > 0]
    bounds = [s["sla"]["delay"]["bound_ms"] for s in slices if s["sla"].get("delay")]
    if not known:
        return "<p>No packet of any slice was measured.</p>"
    low, high = math.log10(min(known)), math.log10(max([*known, *bounds])) + 0.05
    frame = Frame(780, 330, low, high, -4, 0, left=58)
    parts = [_decades(frame), _shares(frame)]
    for index, slice_ in enumerate(slices):
        rows = [r for r in rows_of(delays, slice=slice_["name"]) if r["owd_ms"] > 0]
        points = [
            (frame.x(math.log10(r["owd_ms"])), frame.y(math.log10(1 - r["quantile"])))
            for r in rows
            if r["quantile"] < 1
        ]
        dash = ("", "8 3", "3 3")[index % 3]
        parts.append(line(points, colour_of(index), 2.4, dash) if points else "")
        parts.append(
            text(
                frame.left + 14,
                frame.height - 84 + 17 * index,
                slice_["name"],
                style="font-weight:600",
                colour=colour_of(index),
            )
        )
    parts += [_bound(frame, slice_, index) for index, slice_ in enumerate(slices)]
    return svg(frame, "One-way delay: share of packets that are later", *parts)


def _bound(frame: Frame, slice_: Row, index: int) -> str:
    """Each slice's words on a line of their own: bounds may be close."""
    delay = slice_["sla"].get("delay")
    if not delay:
        return ""
    share = math.log10(1 - delay["percentile"] / 100)
    x, y = frame.x(math.log10(delay["bound_ms"])), frame.y(share)
    words = f"{slice_['name']}: p{delay['percentile']:g} at most {delay['bound_ms']:g} ms"
    diamond = marker(x, y, "diamond", colour_of(index), words)
    # Curves come down from the left: words stand to the right where the frame leaves room.
    fits = x < 0.74 * frame.width
    place, anchor = (x + 10, "start") if fits else (x - 10, "end")
    return diamond + text(place, y - 8 - 14 * index, words, anchor, HALO, colour_of(index))


def _decades(frame: Frame) -> str:
    parts = []
    for exponent in range(math.ceil(frame.x_min), math.floor(frame.x_max) + 1):
        parts.append(vertical(frame, exponent, GRID))
        label = f"{10.0**exponent:g} ms"
        parts.append(text(frame.x(exponent), frame.height - 9, label, "middle"))
    return "".join(parts)


def _shares(frame: Frame) -> str:
    parts = []
    for exponent, label in ((0, "all"), (-1, "10 %"), (-2, "1 %"), (-3, "0.1 %"), (-4, "0.01 %")):
        y = frame.y(exponent)
        parts.append(
            f'<line x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" '
            f'y2="{y:.1f}" stroke="{GRID}"/>'
        )
        parts.append(text(frame.left - 6, y + 4, label, "end"))
    return "".join(parts)


def sla_strip(windows: Table, slices: Sequence[Row]) -> str:
    """A square a second and slice: full when the SLA held, a low bar when it did not."""
    first, last = min(windows["window"]), max(windows["window"]) + 1
    row_height = 30
    frame = Frame(1180, 30 + row_height * len(slices), first, last, 0, 1, left=110, top=4)
    parts = [x_axis(frame, "s", 10)]
    for index, slice_ in enumerate(slices):
        top = frame.top + row_height * index
        parts.append(text(frame.left - 10, top + 18, slice_["name"], "end", colour=INK))
        for row in rows_of(windows, slice=slice_["name"]):
            x, width = frame.x(row["window"]), frame.x(row["window"] + 1) - frame.x(row["window"])
            height, fill = (22, GOOD) if row["satisfied"] else (8, BAD)
            parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{top + 24 - height}" height="{height}" '
                f'width="{max(0.5, width - 1):.1f}" fill="{fill}">'
                f"<title>{_window_words(slice_['name'], row)}</title></rect>"
            )
    return svg(frame, "SLA of each slice, second by second", *parts)


def _window_words(name: str, row: Row) -> str:
    broken = [t for t in ("goodput", "delay", "loss") if not row[f"{t}_holds"]]
    verdict = f"broken: {', '.join(broken)}" if broken else "kept"
    return (
        f"{name}, second {row['window']}: {verdict}; offered {row['offered_mbps']:.2f}, goodput "
        f"{row['goodput_mbps']:.2f} Mbit/s, lost {row['lost_packets']} of {row['sent_packets']}"
    )


_SHAPES = {"verified": "dot", "refuted": "cross", "not_exercised": "ring", "pending": "ring"}


def time_line(decisions: Table, summary: Row) -> str:
    """A lane for each kind of decision and cell or user; the marker tells what became of it."""
    measured = summary["measured"]
    start_s = (measured["start_ns"] - measured["t0_ns"]) / 1e9
    end_s = (measured["end_ns"] - measured["t0_ns"]) / 1e9
    lanes: dict[str, list[Row]] = {}
    for row in rows_of(decisions):
        at_ns = row["confirmed_ns"] or row["received_ns"]
        if at_ns and measured["start_ns"] <= at_ns < measured["end_ns"]:
            at_s = (at_ns - measured["t0_ns"]) / 1e9
            lanes.setdefault(_lane(row), []).append({**row, "at_s": at_s})
    if not lanes:
        return "<p>No decision was taken in the measured window.</p>"
    height = 22
    frame = Frame(1180, 34 + height * len(lanes), start_s, end_s, 0, 1, left=150, top=4)
    parts = [x_axis(frame, "s", 10)]
    for index, lane in enumerate(sorted(lanes)):
        y = frame.top + height * index + height / 2
        parts.append(text(frame.left - 12, y + 4, lane, "end", colour=INK))
        parts.append(
            f'<line x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y}" y2="{y}" '
            f'stroke="{GRID}"/>'
        )
        parts += [_decision_mark(frame, row, y) for row in lanes[lane]]
    return svg(frame, "Decisions over time", *parts)


def _lane(row: Row) -> str:
    target = row["target"]
    what = target.get("ue_id") or target.get("cell_id") or " ".join(map(str, target.values()))
    return f"{row['action']} {what}"


def _decision_mark(frame: Frame, row: Row, y: float) -> str:
    title = f"{row['at_s']:.1f} s · {row['xapp']} · {row['verdict']}, {row['effect']}"
    if row["reason"]:
        title += f" · {row['reason']}"
    if row["verdict"] != "applied":
        return marker(frame.x(row["at_s"]), y, "cross", MUTED, title)
    shape = "diamond" if row["action"] == "handover" else _SHAPES[row["effect"]]
    colour = BAD if row["effect"] == "refuted" else colour_of(0)
    return marker(frame.x(row["at_s"]), y, shape, colour, title)
