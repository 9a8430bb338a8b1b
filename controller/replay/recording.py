"""A results folder as a replay needs it: inventory, aggregates as they arrived, decisions."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.contracts.decisions import Action, DecisionRecord, Effect, Verdict
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slices import TrafficClass
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.ric.decision_log import HOPS
from controller.twins.level_two import MeasuredRate

Row = Mapping[str, Any]


class RecordingError(Exception):
    """Not a results folder that can be replayed; the message says what is missing."""


@dataclass(frozen=True)
class Window:
    """An aggregate as it arrived; `reservations`, `rates`: what held and was counted then."""

    aggregate: CellAggregate
    received_at_ns: int
    reservations: tuple[Reservation, ...]
    rates: tuple[MeasuredRate, ...]


@dataclass(frozen=True)
class Recording:
    """`windows` in the order of arrival; `decisions` in the order in which they were made.

    `inventory` has the slices of the run's end.
    """

    folder: Path
    inventory: Inventory
    windows: tuple[Window, ...]
    decisions: tuple[DecisionRecord, ...]

    @property
    def duration_s(self) -> float:
        return (self.windows[-1].received_at_ns - self.windows[0].received_at_ns) / 1e9

    @property
    def handovers(self) -> list[tuple[int, str, str]]:
        """(when, ue_id, cell_id) of each that was confirmed."""
        return [
            (d.hops_ns["confirmed"], d.target["ue_id"], d.parameters["cell_id"])
            for d in self.decisions
            if d.action is Action.HANDOVER and d.verdict is Verdict.APPLIED
        ]


def load_recording(folder: Path) -> Recording:
    """Raises `RecordingError`."""
    try:
        inventory = Inventory.load(folder / "inventory.json")
        twins, decisions = rows_of(folder, "twins"), rows_of(folder, "decisions")
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise RecordingError(
            f"{folder} has no {name}; a folder that `./testbed.sh run` wrote was expected"
        ) from None
    except ValidationError as error:
        raise RecordingError(f"{folder / 'inventory.json'}: {error.errors()[0]['msg']}") from None
    if not twins:
        raise RecordingError(f"{folder}: its table of twins is empty; nothing to replay")
    edges = {cell.cell_id: cell.edge for cell in inventory.cells}
    links_kbps = {cell.cell_id: cell.down_kbps for cell in inventory.cells}
    try:
        windows = [_window(own, edges, links_kbps) for own in by_arrival(twins)]
    except KeyError as error:
        raise RecordingError(f"{folder}: twins without {error}: made by an older version") from None
    return Recording(folder, inventory, tuple(windows), tuple(_record(d) for d in decisions))


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    """Raises FileNotFoundError with the file's name."""
    import pyarrow.parquet as pa_parquet

    path = folder / f"{table}.parquet"
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such table", str(path))
    rows: list[dict[str, Any]] = pa_parquet.read_table(path).to_pylist()
    return rows


def by_arrival(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of the table `twins`, those of one aggregate together."""

    def key(row: Row) -> tuple[int, str, int]:
        return row["received_at_ns"], row["cell_id"], row["window"]

    return [list(own) for _, own in groupby(sorted(rows, key=key), key)]


def _window(rows: Sequence[Row], edges: Mapping[str, str], links: Mapping[str, int]) -> Window:
    first = rows[0]
    names = ("trace_id", "cell_id", "window", "period_ms", "completed_at_ns", "sent_at_ns")
    aggregate = CellAggregate(
        **{name: first[name] for name in names},
        edge=edges[first["cell_id"]],
        users_reported=first["users_reported"],
        users_expected=first["users_expected"],
        slices=[_demand(row) for row in rows if row["users"] or row["demand_kbps"]],
    )
    link_kbps = links[first["cell_id"]]
    return Window(
        aggregate,
        first["received_at_ns"],
        tuple(_reservation(row) for row in rows if _is_held(row, link_kbps)),
        tuple(_rate(row) for row in rows if row["arrived_kbps"] is not None),
    )


def _demand(row: Row) -> SliceDemand:
    return SliceDemand(**{name: row[name] for name in SliceDemand.model_fields})


def _is_held(row: Row, link_kbps: int) -> bool:
    """A slice without a reservation is shown with no guarantee and the link as its ceiling."""
    return row["max_kbps"] is not None and (row["min_kbps"] or 0, row["max_kbps"]) != (0, link_kbps)


def _reservation(row: Row) -> Reservation:
    return Reservation(
        slice_id=row["slice_id"],
        traffic_class=TrafficClass(row["traffic_class"]),
        min_kbps=row["min_kbps"] or 0,
        max_kbps=row["max_kbps"],
    )


def _rate(row: Row) -> MeasuredRate:
    traffic_class = TrafficClass(row["traffic_class"])
    arrived, delivered = row["arrived_kbps"], row["delivered_kbps"]
    return MeasuredRate(row["cell_id"], row["slice_id"], traffic_class, arrived, delivered)


def _record(row: Row) -> DecisionRecord:
    """As its caller was answered: how it turned out was not known then."""
    nested = {name: json.loads(row[name]) for name in ("target", "parameters", "confirmations")}
    plain = ("decision_id", "trace_id", "xapp", "action", "verdict", "reason", "loop_latency_ms")
    hops_ns = {hop: row[f"{hop}_ns"] for hop in HOPS if row[f"{hop}_ns"] is not None}
    is_applied = row["verdict"] == Verdict.APPLIED.value
    effect = Effect.PENDING if is_applied else Effect.NOT_EXERCISED
    return DecisionRecord.model_validate(
        {
            **{name: row[name] for name in plain},
            **nested,
            "based_on": [],
            "hops_ns": hops_ns,
            "effect": effect,
        }
    )
