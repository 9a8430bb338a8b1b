"""`twin configure` and `twin model`: twin model control from the command line."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

import typer

from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import Northbound, northbound
from topologies.cli.running import Json

Pairs = Annotated[list[str] | None, typer.Option(metavar="ATTRIBUTE=VALUE")]


def _pairs(option: str, texts: list[str] | None, convert: Any) -> dict[str, Any]:
    found = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        try:
            if not separator:
                raise ValueError
            found[name] = convert(value)
        except ValueError:
            raise CommandRefused(
                f"{option} {text!r}: ATTRIBUTE=VALUE is right; attributes: ./testbed.sh twin model",
                2,
            ) from None
    return found


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def slice_id_of(api: Northbound, wanted: str) -> str:
    """`sst-sd` of a slice by that or by its name."""
    names = {s["name"]: terminal.cell(s["s_nssai"]) for s in api.get("slices")}
    return str(names.get(wanted, wanted))


def configure(
    type_: Annotated[str | None, typer.Option("--type", help="All users of a type.")] = None,
    slice_: Annotated[str | None, typer.Option("--slice", help="All users of a slice.")] = None,
    edge: Annotated[str | None, typer.Option(help="All users at an edge.")] = None,
    ue: Annotated[str | None, typer.Option(help="One user.")] = None,
    period_ms: Annotated[int | None, typer.Option(help="Synchronisation period.")] = None,
    upload: Annotated[str | None, typer.Option(help="push, poll or batch.")] = None,
    batch_reports: Annotated[int | None, typer.Option(help="Reports a datagram.")] = None,
    history_length: Annotated[int | None, typer.Option(help="Reports kept.")] = None,
    precision: Pairs = None,
    attribute_period_ms: Pairs = None,
    predicted: Pairs = None,
    readers: Pairs = None,
    slice_twin: Annotated[str | None, typer.Option(help="The twin of a slice itself.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what was said before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    as_json: Json = False,
) -> None:
    """Change the model of twins, live: the packets follow.

    \b
    Examples:
      ./testbed.sh twin configure --type vehicle --period-ms 200
      ./testbed.sh twin configure --ue ue1 --upload batch --batch-reports 4
      ./testbed.sh twin configure --slice video --precision services.demand_kbps=100
      ./testbed.sh twin configure --type phone --predicted user.location_m=no
      ./testbed.sh twin configure --type phone --readers user.location_m=operator
      ./testbed.sh twin configure --slice-twin video --period-ms 2000 --history-length 50
      ./testbed.sh twin configure --type slice --precision demand_kbps=10
      ./testbed.sh twin configure --type phone --reset
    """
    changes: dict[str, Any] = {
        "period_ms": period_ms,
        "upload": upload,
        "batch_reports": batch_reports,
        "history_length": history_length,
        "precision": _pairs("--precision", precision, float),
        "attribute_period_ms": _pairs("--attribute-period-ms", attribute_period_ms, int),
        "predicted": _pairs("--predicted", predicted, _yes),
        "readers": _pairs("--readers", readers, str),
        "reset": reset or None,
    }
    with northbound() as api:
        target = {
            "type": type_,
            "s_nssai": slice_id_of(api, slice_) if slice_ else None,
            "edge": edge,
            "ue_id": ue,
            "slice_twin": slice_id_of(api, slice_twin) if slice_twin else None,
        }
        record = api.post(
            "decisions",
            {
                "trace_id": uuid.uuid4().hex,
                "decision_id": f"twin-{time.time_ns()}",
                "xapp": "operator",
                "action": "configure_twin",
                "target": {k: v for k, v in target.items() if v is not None},
                "parameters": {k: v for k, v in changes.items() if v not in (None, {})},
                "dry_run": dry_run,
            },
        )
    if as_json:
        terminal.print_json(record)
    if record["verdict"] != "applied":
        raise CommandRefused(f"{record['verdict']}: {record['reason']}")
    if not as_json:
        for scope, change in record["diff"]["twin_models"].items():
            print(f"{scope}: {terminal.cell(change['before'])} -> {terminal.cell(change['after'])}")
        for edge_ in record["confirmations"]:
            print(f"  {edge_['switch']}: {edge_['detail']}")


def model(
    wanted: Annotated[str | None, typer.Argument(metavar="TYPE|UE")] = None, as_json: Json = False
) -> None:
    """Show twin models: all types, one, or a user's as it is now.

    \b
    Examples:
      ./testbed.sh twin model
      ./testbed.sh twin model vehicle
      ./testbed.sh twin model ue1 --json
    """
    with northbound() as api:
        if wanted is None:
            models = api.get("twin-models")
            if as_json:
                terminal.print_json(models)
            else:
                heads = ("type", "level", "upload", "report_period_ms", "description")
                terminal.print_table(heads, models)
            return
        users = {u["ue_id"] for u in api.get("ues")}
        path = f"twin-models/settings/{wanted}" if wanted in users else f"twin-models/{wanted}"
        document = api.get(path)
    if as_json:
        terminal.print_json(document)
        return
    for key, value in document.items():
        if key != "attributes":
            print(f"{key}: {terminal.cell(value)}")
    rows = [{"attribute": name, **a} for name, a in document["attributes"].items()]
    columns = ("attribute", "unit", "precision", "period_ms", "predicted", "readers", "source")
    terminal.print_table(columns, rows)


def add_to(commands: typer.Typer) -> typer.Typer:
    commands.command("configure")(configure)
    commands.command("model")(model)
    return commands
