"""`vnf`: network functions in servers, placed, moved and removed while traffic runs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from topologies.cli import terminal
from topologies.cli.changes import DryRun, print_diff
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound

commands = typer.Typer(
    help="Network functions that a service's traffic passes.", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FunctionName = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name: a new one, or as `vnf list` shows it.")
]
_COLUMNS = ("name", "service", "host", "deny", "passed_packets", "dropped_packets")


@commands.command("list")
def list_(as_json: Json = False) -> None:
    """List functions with what passed them and what they dropped.

    \b
    Examples:
      ./testbed.sh vnf list --json
    """
    with northbound() as api:
        found = api.get("functions")
    if as_json:
        terminal.print_json(found)
    else:
        terminal.print_table(_COLUMNS, found)


@commands.command("place")
def place(
    name: FunctionName,
    service: Annotated[str, typer.Option("--service", help="Whose traffic passes it.")],
    on: Annotated[str, typer.Option("--on", metavar="HOST", help="Server to place it in.")],
    deny: Annotated[list[str] | None, typer.Option("--deny", metavar="UE")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Place a firewall in a server; what goes to the service and from it passes there.

    \b
    Examples:
      ./testbed.sh vnf place gate --service archive --on compute1 --deny car2
      ./testbed.sh vnf place gate --service archive --on compute1 --dry-run
    """
    body = {"name": name, "service": service, "host": on, "deny": deny or [], "dry_run": dry_run}
    _post(body, as_json)


@commands.command("move")
def move(
    name: FunctionName,
    to: Annotated[str, typer.Option("--to", metavar="HOST")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Move a function to another server; no packet goes past it meanwhile.

    \b
    Examples:
      ./testbed.sh vnf move gate --to compute2
    """
    with northbound() as api:
        found = {f["name"]: f for f in api.get("functions")}
    if name not in found:
        raise _unknown(name, list(found))
    old = found[name]
    body = {key: old[key] for key in ("name", "service", "deny")}
    _post({**body, "host": to, "dry_run": dry_run}, as_json)


@commands.command("remove")
def remove(name: FunctionName, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Remove a function; the service is reached straight again.

    \b
    Examples:
      ./testbed.sh vnf remove gate
      ./testbed.sh vnf remove gate --dry-run
    """
    with northbound() as api:
        answer = api.delete(f"functions/{quote(name, safe='')}?dry_run={str(dry_run).lower()}")
    _print(answer, dry_run, f"{name} is removed", as_json)


def _unknown(name: str, known: list[str]) -> Exception:
    return CommandRefused(f"unknown function {name!r}; known: {', '.join(known) or 'none'}")


def _post(body: dict[str, Any], as_json: bool) -> None:
    with northbound() as api:
        answer = api.post("functions", body)
    _print(answer, body["dry_run"], f"{body['name']} is in {body['host']}", as_json)


def _print(answer: dict[str, Any], dry_run: bool, done: str, as_json: bool) -> None:
    if as_json:
        terminal.print_json(answer)
    elif dry_run:
        print("dry run: nothing was changed. It would:")
        print_diff(answer["diff"])
    else:
        for confirmation in answer["confirmations"]:
            print(f"  {confirmation['switch']}: {confirmation['detail']}")
        print(done)
