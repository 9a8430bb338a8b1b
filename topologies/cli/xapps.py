"""Commands of the xApp life cycle, from `new` to `undeploy`."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from topologies.checkout import REPOSITORY
from topologies.cli import descriptors, terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound
from topologies.cli.running import Json

TEMPLATE = REPOSITORY / "xapps" / "template"
NAME_PATTERN = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
COLUMNS = ("xapp_name", "version", "state", "pid", "placement", "reason")

XappName = Annotated[str, typer.Argument(metavar="NAME", help="As `xapp list` shows it.")]
FolderOrShipped = Annotated[
    str, typer.Argument(metavar="DIR", help="A folder, or the name of a shipped xApp.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Its configuration. Repeatable."),
]
REPLACE_TIMEOUT_S = 30.0
"""Two starts, when the new version does not."""
XappDir = Annotated[Path, typer.Argument(metavar="DIR", help="A folder with config-file.json.")]

commands = typer.Typer(
    help="Write, check, deploy and watch xApps.", no_args_is_help=True, rich_markup_mode="rich"
)


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, digits, dashes.")],
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="D", help="Its folder (./NAME).")
    ] = None,
) -> None:
    """Make a working xApp to start from.

    \b
    Examples:
      ./testbed.sh xapp new my-xapp
      ./testbed.sh xapp new my-xapp --dir ~/xapps/my-xapp
    """
    if not NAME_PATTERN.match(name):
        raise CommandRefused(
            f"{name!r} is no name for an xApp: use lower case letters, digits and dashes, "
            "at most 31, starting with a letter"
        )
    target = folder or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CommandRefused(f"{target} exists already and is not empty; choose another --dir")
    shutil.copytree(
        TEMPLATE, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    _rename(target / "config-file.json", name)
    print(f"xApp {name} made in {target}: read its README.md, edit xapp.py, then")
    print(f"  ./testbed.sh xapp validate {target}")
    print(f"  ./testbed.sh xapp deploy {target}      # onto a testbed that is up")


def _rename(descriptor: Path, name: str) -> None:
    document = json.loads(descriptor.read_text())
    document["xapp_name"] = name
    descriptor.write_text(json.dumps(document, indent=2) + "\n")


@commands.command("validate")
def validate(folder: XappDir) -> None:
    """Check an xApp's descriptor and the model files it names; needs no running testbed.

    \b
    Example:
      ./testbed.sh xapp validate my-xapp
    """
    print(descriptors.checked(folder))


@commands.command("deploy")
def deploy(
    folder: FolderOrShipped,
    at: Annotated[
        str, typer.Option(metavar="HOST", help="Where it runs: an edge server, or centre.")
    ] = "centre",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of the descriptor's name.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Start an xApp on the running testbed; returns when it says that it is ready.

    \b
    Examples:
      ./testbed.sh xapp deploy my-xapp
      ./testbed.sh xapp deploy slice-planner --name second --at edge1 --set margin_quantile=0.9
    """
    request: dict[str, Any] = {
        "descriptor_dir": _absolute(folder),
        "placement": at,
        "config": configuration(settings or []),
        **({"name": name} if name else {}),
    }
    with northbound() as api:
        _print_running(api.post("xapps", request))


def _absolute(folder: str) -> str:
    """A folder's whole path, because the RIC works elsewhere; a shipped xApp's name as it is."""
    return str(Path(folder).resolve()) if Path(folder).is_dir() else folder


def _print_running(document: dict[str, Any]) -> None:
    print(
        f"xApp {document['xapp_name']} {document['version']} is {document['state']} "
        f"at {document['placement']}, pid {document['pid']}"
    )


@commands.command("upgrade")
def upgrade(name: XappName, folder: FolderOrShipped, settings: Settings = None) -> None:
    """Put another version in a running xApp's place; its reservations stay meanwhile.

    When the new version does not start, the one before runs again. Without --set it keeps
    the configuration.

    \b
    Examples:
      ./testbed.sh xapp upgrade my-xapp my-xapp-v2
      ./testbed.sh xapp upgrade slice-planner ~/planner --set margin_quantile=0.9
    """
    request = {
        "descriptor_dir": _absolute(folder),
        "config": configuration(settings) if settings else None,
    }
    with northbound(REPLACE_TIMEOUT_S) as api:
        _print_running(api.post(f"xapps/{quote(name, safe='')}/upgrade", request))


@commands.command("rollback")
def rollback(name: XappName) -> None:
    """Put the version before the last upgrade in its place again.

    \b
    Example:
      ./testbed.sh xapp rollback my-xapp
    """
    with northbound(REPLACE_TIMEOUT_S) as api:
        _print_running(api.post(f"xapps/{quote(name, safe='')}/rollback", {}))


def configuration(settings: list[str]) -> dict[str, Any]:
    """`key=value` texts as a document; a value is JSON where it can be, else text."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise CommandRefused(f"--set {setting}: must be KEY=VALUE", 2)
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


@commands.command("list")
def list_(as_json: Json = False) -> None:
    """List the deployed xApps with their state and pid.

    \b
    Examples:
      ./testbed.sh xapp list
      ./testbed.sh xapp list --json
    """
    with northbound() as api:
        items = api.get("xapps")
    if as_json:
        terminal.print_json(items)
    else:
        terminal.print_table(COLUMNS, items)


@commands.command("logs")
def logs(
    name: XappName,
    lines: Annotated[int, typer.Option(help="How many of the last lines.", min=1)] = 50,
) -> None:
    """Print what an xApp wrote to its log.

    \b
    Example:
      ./testbed.sh xapp logs slice-planner --lines 20
    """
    with northbound() as api:
        document = api.get(f"xapps/{name}/logs", lines=lines)
    print(os.linesep.join(document["lines"]))


@commands.command("undeploy")
def undeploy(name: XappName) -> None:
    """End an xApp and take it off the list.

    \b
    Example:
      ./testbed.sh xapp undeploy slice-planner
    """
    with northbound() as api:
        api.delete(f"xapps/{name}")
    print(f"xApp {name} is undeployed")
