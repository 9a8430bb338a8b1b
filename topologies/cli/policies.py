"""`policy`: A1 policies, their types, and whether xApps enforce them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import Northbound, northbound
from topologies.cli.running import Json

TYPES = "/A1-P/v2/policytypes"

commands = typer.Typer(
    help="A1 policies: what is wanted of xApps, and what they say of it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
TypeId = Annotated[int, typer.Argument(metavar="TYPE", help="As `policy types` shows it.", min=1)]
PolicyId = Annotated[str, typer.Argument(metavar="ID", help="Letters, digits, dots, dashes.")]
JsonFile = Annotated[str, typer.Argument(metavar="FILE", help="JSON; - is standard input.")]


@commands.command("types")
def types(as_json: Json = False) -> None:
    """The types of policies that there are.

    \b
    Examples:
      ./testbed.sh policy types
      ./testbed.sh policy types --json
    """
    with northbound() as api:
        found = [api.get(f"{TYPES}/{type_id}") for type_id in api.get(TYPES)]
    if as_json:
        terminal.print_json(found)
    elif found:
        terminal.print_table(("policy_type_id", "name", "description"), found)
    else:
        print("no policy types; ./testbed.sh policy define FILE makes one")


@commands.command("define")
def define(file: JsonFile) -> None:
    """Make a type of policies: name, policy_type_id, description, create_schema.

    \b
    Example:
      ./testbed.sh policy define headroom-type.json
    """
    wanted = _document(file)
    with northbound() as api:
        made = api.put(f"{TYPES}/{wanted.get('policy_type_id', 0)}", wanted)
    print(f"policy type {made['policy_type_id']} ({made['name']}) is known")


@commands.command("undefine")
def undefine(type_id: TypeId) -> None:
    """Forget a type that has no policies.

    \b
    Example:
      ./testbed.sh policy undefine 20100
    """
    with northbound() as api:
        api.delete(f"{TYPES}/{type_id}")
    print(f"policy type {type_id} is gone")


@commands.command("list")
def list_(as_json: Json = False) -> None:
    """All policies, and whether they are enforced.

    \b
    Examples:
      ./testbed.sh policy list
      ./testbed.sh policy list --json
    """
    with northbound() as api:
        found = [
            _shown(api, type_id, instance)
            for type_id in api.get(TYPES)
            for instance in api.get(f"{TYPES}/{type_id}/policies")
        ]
    if as_json:
        terminal.print_json(found)
    elif found:
        columns = ("policy_type_id", "policy_instance_id", "enforceStatus", "enforceReason")
        terminal.print_table(columns, found)
    else:
        print("no policies; ./testbed.sh policy set TYPE ID FILE makes one")


@commands.command("show")
def show(type_id: TypeId, policy_id: PolicyId) -> None:
    """One policy with its payload and status, as JSON.

    \b
    Example:
      ./testbed.sh policy show 20100 evening
    """
    with northbound() as api:
        terminal.print_json(_shown(api, type_id, policy_id))


@commands.command("set")
def set_(type_id: TypeId, policy_id: PolicyId, file: JsonFile) -> None:
    """Make or change a policy; xApps that handle its type are told at once.

    \b
    Examples:
      ./testbed.sh policy set 20100 evening evening.json
      echo '{"headroom_ratio": 0.4}' | ./testbed.sh policy set 20100 evening -
    """
    wanted = _document(file)
    with northbound() as api:
        api.put(_path(type_id, policy_id), wanted)
        said = _shown(api, type_id, policy_id)
    print(f"policy {type_id}/{policy_id}: {said['enforceStatus']}, {said['enforceReason']}")


@commands.command("delete")
def delete(type_id: TypeId, policy_id: PolicyId) -> None:
    """Take a policy back.

    \b
    Example:
      ./testbed.sh policy delete 20100 evening
    """
    with northbound() as api:
        api.delete(_path(type_id, policy_id))
    print(f"policy {type_id}/{policy_id} is gone")


def _path(type_id: int, policy_id: str) -> str:
    return f"{TYPES}/{type_id}/policies/{quote(policy_id, safe='')}"


def _shown(api: Northbound, type_id: int, policy_id: str) -> dict[str, Any]:
    path = _path(type_id, policy_id)
    return {
        "policy_type_id": type_id,
        "policy_instance_id": policy_id,
        **api.get(f"{path}/status"),
        "payload": api.get(path),
    }


def _document(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        document = json.loads(text)
    except OSError as error:
        reason = f"{file}: {error.strerror}; give a JSON file, or - for standard input"
        raise CommandRefused(reason) from None
    except ValueError as error:
        raise CommandRefused(f"{file}: {error}; a JSON object is right") from None
    if not isinstance(document, dict):
        raise CommandRefused(f"{file}: a JSON object is right")
    return document
