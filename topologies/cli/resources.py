"""Commands that show the testbed's things: ue, slice, cell, service, twin, decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote

import typer

from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import Northbound, NotFound, northbound
from topologies.cli.running import Json


@dataclass(frozen=True)
class Resource:
    """A kind of thing the API lists: its path, its table, and what names one of them."""

    command: str
    plural: str
    what: str
    columns: tuple[str, ...]
    identifiers: tuple[str, ...]
    example_id: str
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Of the list's request."""
    actions: str = ""
    """What its commands can do besides, for the group's --help."""


RESOURCES = (
    Resource(
        "slice",
        "slices",
        "slices: SLA, what they hold reserved, where",
        ("s_nssai", "name", "sla", "reserved", "cells"),
        ("name", "s_nssai", "slice_id"),
        "urllc",
        actions="create, resize, cover, end them",
    ),
    Resource(
        "ue",
        "ues",
        "users: type, serving cell, sessions",
        ("ue_id", "kind", "cell_id", "sessions"),
        ("ue_id",),
        "ue1",
        actions="hand them over",
    ),
    Resource(
        "cell",
        "cells",
        "cells: capacity, reservations, users",
        ("cell_id", "kind", "edge", "capacity_kbps", "reserved_kbps", "users"),
        ("cell_id",),
        "ap1",
    ),
    Resource(
        "service",
        "services",
        "services: their slice, host and address",
        ("name", "s_nssai", "host", "address", "port", "traffic_class"),
        ("name", "address"),
        "stream",
        actions="migrate them",
    ),
    Resource(
        "twin",
        "twins",
        "twins of users, cells and slices: version and age",
        ("kind", "id", "version", "age_ms"),
        ("id",),
        "ue1",
        actions="configure their models",
    ),
    Resource(
        "decision",
        "decisions",
        "decisions: verdict, effect, timing",
        (
            "decision_id",
            "xapp",
            "action",
            "target",
            "verdict",
            "reason",
            "effect",
            "loop_latency_ms",
        ),
        ("decision_id",),
        "ID",
        {"last": 1000},
    ),
)

TWIN_PATHS = {"user": "users", "slice": "slices", "cell": "cells"}


def find(resource: Resource, items: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The one item that `wanted` names; refused with what there is."""
    for item in items:
        if wanted in (terminal.cell(item.get(key)) for key in resource.identifiers):
            return item
    names = [terminal.cell(item[resource.identifiers[0]]) for item in items]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    raise NotFound(f"unknown {resource.command} {wanted!r}; known: {shown or 'none yet'}")


def detail(api: Northbound, resource: Resource, wanted: str) -> Any:
    """All the API tells of one thing. For a slice's twin, `wanted` may be the slice's name."""
    if resource.command == "decision":
        return api.get(f"decisions/{quote(wanted, safe='')}")
    if resource.command == "twin":
        slices = {item["name"]: terminal.cell(item["s_nssai"]) for item in api.get("slices")}
        twin = find(resource, api.get("twins"), slices.get(wanted, wanted))
        return api.get(f"twins/{TWIN_PATHS[twin['kind']]}/{quote(twin['id'], safe='')}")
    return find(resource, api.get(resource.plural), wanted)


def _print_detail(document: Any, indent: str = "") -> None:
    """Keys and values, nested ones indented; a twin's attribute on one line."""
    for key, value in document.items():
        if isinstance(value, Mapping) and {"value", "unit", "age_ms"} <= set(value):
            print(f"{indent}{key}: {_attribute(value)}")
        elif isinstance(value, Mapping) and set(value) != {"sst", "sd"} and value:
            print(f"{indent}{key}:")
            _print_detail(value, indent + "  ")
        else:
            print(f"{indent}{key}: {terminal.cell(value)}")


def _attribute(attribute: Mapping[str, Any]) -> str:
    unit = attribute["unit"] if attribute["unit"] not in (None, "-") else ""
    predicted = attribute.get("predicted")
    forecast = f", predicted {terminal.cell(predicted)}" if predicted else ""
    age = terminal.cell(attribute["age_ms"])
    return f"{terminal.cell(attribute['value'])} {unit} ({age} ms ago{forecast})".replace("  ", " ")


def group(resource: Resource) -> typer.Typer:
    """`RESOURCE list` and `RESOURCE show ID`."""
    name = resource.command
    more = f"; {resource.actions}" if resource.actions else ""
    commands = typer.Typer(
        help=f"Show {resource.what}{more}.", no_args_is_help=True, rich_markup_mode="rich"
    )

    def list_(as_json: Json = False) -> None:
        with northbound() as api:
            items = api.get(resource.plural, **resource.parameters)
        if as_json:
            terminal.print_json(items)
        else:
            terminal.print_table(resource.columns, items)

    def show(wanted: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
        if not wanted:
            raise CommandRefused(f"which {name}? see ./testbed.sh {name} list", 2)
        with northbound() as api:
            document = detail(api, resource, wanted)
        if as_json:
            terminal.print_json(document)
        else:
            _print_detail(document)

    list_.__doc__ = (
        f"List {resource.what}.\n\n\b\nExamples:\n"
        f"  ./testbed.sh {name} list\n  ./testbed.sh {name} list --json"
    )
    show.__doc__ = (
        f"Show everything about one {name}.\n\n\b\nExamples:\n"
        f"  ./testbed.sh {name} show {resource.example_id}\n"
        f"  ./testbed.sh {name} show {resource.example_id} --json"
    )
    commands.command("list")(list_)
    commands.command("show")(show)
    return commands
