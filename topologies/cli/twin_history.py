"""`twin history` and `twin export`: what twins knew over time, on the screen or as files."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.hosts import inventory_of
from topologies.cli.northbound import northbound, running
from topologies.cli.resources import TWIN_PATHS
from topologies.cli.running import Json

if TYPE_CHECKING:  # pyarrow takes long to import
    from topologies.results.scope import TwinRecords

EXPORT_TIMEOUT_S = 120.0


class Format(StrEnum):
    SCOPE = "scope"
    PARQUET = "parquet"


def history(
    wanted: Annotated[str, typer.Argument(metavar="ID")],
    attribute: Annotated[str, typer.Option(help="As `twin show` names it, with dots.")],
    since: Annotated[str | None, typer.Option(help="10s ago, or ns since 1970.")] = None,
    until: Annotated[str | None, typer.Option(help="The same; not included.")] = None,
    aggregate: Annotated[
        str | None, typer.Option(help="mean, min, max, sum, count, last, p50, p95 or p99.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="Aggregate each 1s, 500ms, ...")] = None,
    last: Annotated[int, typer.Option(help="At most so many points, the newest.")] = 60,
    as_json: Json = False,
) -> None:
    """Show one attribute of a twin over time: a user's, a cell's, or a slice's (by name too).

    \b
    Examples:
      ./testbed.sh twin history ue1 --attribute services.stream.down.demand_kbps --since 10s
      ./testbed.sh twin history ap1 --attribute demand_kbps.1-000001 --aggregate mean --every 1s
      ./testbed.sh twin history video --attribute power_w --since 1m --aggregate p95 --json
    """
    asked = {
        "attribute": attribute,
        "since": since,
        "until": until,
        "aggregate": aggregate,
        "every": every,
        "last": last,
    }
    with northbound() as api:
        slices = {item["name"]: terminal.cell(item["s_nssai"]) for item in api.get("slices")}
        twin_id = slices.get(wanted, wanted)
        kinds = {t["id"]: t["kind"] for t in api.get("twins")}
        if twin_id not in kinds:
            known = ", ".join(list(kinds)[:20]) or "none yet"
            raise CommandRefused(f"unknown twin {wanted!r}; known: {known}")
        path = f"twins/{TWIN_PATHS[kinds[twin_id]]}/{quote(twin_id, safe='')}/history"
        points = api.get(path, **{k: v for k, v in asked.items() if v is not None})
    if as_json:
        terminal.print_json(points)
        return
    rows = [{**point, "time": _time_of_day(point["measured_at"])} for point in points]
    heads = ("time", "value", "samples") if aggregate else ("time", "window", "value")
    terminal.print_table(heads, rows)


def _time_of_day(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")],
    format_: Annotated[
        Format, typer.Option("--format", help="Columns of SCOPE and ColO-RAN, or our tables.")
    ] = Format.SCOPE,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A finished run; the running testbed else."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="10s ago (running testbed only).")] = None,
    as_json: Json = False,
) -> None:
    """Write the history of all twins as files; docs/export.md says what each column is.

    \b
    Examples:
      ./testbed.sh twin export --format scope --out dataset
      ./testbed.sh twin export --format parquet --out tables --since 30s
      ./testbed.sh twin export --format scope --from results/demo --out dataset --json
    """
    from topologies.results.export import write_parquet, write_scope

    if source is not None and since is not None:
        raise CommandRefused("--since is for a running testbed; --from exports all of a run", 2)
    records = _of_run(source) if source is not None else _live(since)
    if not records.users:
        raise CommandRefused("no user twin has reported yet: there is nothing to export")
    write = write_scope if format_ is Format.SCOPE else write_parquet
    try:
        paths = write(records, out)
    except OSError as error:
        raise CommandRefused(f"cannot write {error.filename or out}: {error.strerror}") from error
    if as_json:
        terminal.print_json({"format": format_.value, "files": [str(path) for path in paths]})
        return
    print(f"{len(records.users)} rows of users, {len(paths)} files in {terminal.shown(out)}")


def _of_run(folder: Path) -> TwinRecords:
    from topologies.results.export import records_of_run

    try:
        return records_of_run(folder)
    except FileNotFoundError as error:
        raise CommandRefused(f"{error.filename} is missing; is {folder} a run's folder?") from error


def _live(since: str | None) -> TwinRecords:
    from topologies.results.scope import TwinRecords

    inventory = inventory_of(running())
    limits: dict[str, Any] = {} if since is None else {"since": since}
    with northbound(EXPORT_TIMEOUT_S) as api:
        return TwinRecords(
            users=api.get("twins/rows/users", **limits),
            slices=api.get("twins/rows/slices"),
            capacity_kbps={c.cell_id: float(c.down_kbps) for c in inventory.cells},
            slicing=inventory.slicing,
        )


def add_to(commands: typer.Typer) -> typer.Typer:
    commands.command("history")(history)
    commands.command("export")(export)
    return commands
