"""All commands in one place, and what happens around each: signals, errors, exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_group

from controller.contracts.rpc_client import RpcError
from topologies.cli import (
    batch,
    development,
    figures,
    functions,
    hosts,
    policies,
    replay,
    resources,
    running,
    services,
    slices,
    terminal,
    twin_budget,
    twin_history,
    twin_models,
    users,
    vm,
    whatif,
    xapps,
)
from topologies.cli.errors import CommandRefused
from topologies.errors import EmulationError
from topologies.scenario.errors import ScenarioError

INTERRUPTED = 130

START = "Start here"
TESTBED = "A running testbed"
THINGS = "What is in it"
FIGURES = "Figures"
DEVELOPMENT = "Working on the testbed"

# Everything after the first word belongs to the other program, options included.
PASS_THROUGH = {"allow_interspersed_args": False, "ignore_unknown_options": True}


class InReadingOrder(TyperGroup):
    """`--help` goes from what a newcomer needs first to what developers need."""

    def list_commands(self, ctx: Any) -> list[str]:
        panels = [START, TESTBED, THINGS, FIGURES, DEVELOPMENT]
        return sorted(
            self.commands,
            key=lambda name: panels.index(str(getattr(self.commands[name], "rich_help_panel", ""))),
        )


SETTINGS: dict[str, Any] = {
    "name": "./testbed.sh",
    "cls": InReadingOrder,
    "help": "Holon: network slices, digital twins and xApps on an emulated network.",
    "no_args_is_help": True,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "rich",
}
app = typer.Typer(**SETTINGS)


def _add(
    panel: str, name: str, function: Callable[..., None], settings: dict[str, Any] | None = None
) -> None:
    app.command(name, rich_help_panel=panel, context_settings=settings)(function)


_add(START, "demo", batch.demo)
_add(START, "run", batch.run)
_add(START, "doctor", running.doctor)
_add(START, "setup", running.setup)
_add(TESTBED, "up", running.up)
_add(TESTBED, "status", running.status)
_add(TESTBED, "exec", hosts.exec_, PASS_THROUGH)
_add(TESTBED, "shell", hosts.shell)
_add(TESTBED, "env", running.env)
_add(TESTBED, "down", running.down)
_add(TESTBED, "clean", running.clean)
_MORE = {"slice": slices.add_to_slices, "ue": slices.add_to_users}
for _resource in resources.RESOURCES:
    _group = resources.group(_resource)
    if _resource.command in _MORE:
        _MORE[_resource.command](_group)
    if _resource.command == "service":
        _group.command("migrate")(services.migrate)
        users.add_to_services(_group)
    if _resource.command == "twin":
        twin_models.add_to(_group)
        twin_budget.add_to(_group)
        twin_history.add_to(_group)
        users.add_to_twins(_group)
    if _resource.command == "ue":
        users.add_to_users(_group)
    if _resource.command == "slice":
        users.add_to_slices(_group)
    app.add_typer(_group, name=_resource.command, rich_help_panel=THINGS)
app.add_typer(functions.commands, name="vnf", rich_help_panel=THINGS)
app.add_typer(xapps.commands, name="xapp", rich_help_panel=THINGS)
app.add_typer(policies.commands, name="policy", rich_help_panel=THINGS)
app.add_typer(whatif.commands, name="whatif", rich_help_panel=THINGS)
_add(FIGURES, "measure", figures.measure)
_add(FIGURES, "capture", hosts.capture)
_add(FIGURES, "replay", replay.replay)
_add(FIGURES, "report", figures.report)
_add(FIGURES, "compare", figures.compare)
_add(FIGURES, "bench", figures.bench, PASS_THROUGH)
_add(DEVELOPMENT, "test", development.test, PASS_THROUGH)
_add(DEVELOPMENT, "train", development.train, PASS_THROUGH)
app.add_typer(development.models_commands, name="models", rich_help_panel=DEVELOPMENT)
app.add_typer(vm.commands, name="vm", rich_help_panel=DEVELOPMENT)


def main(arguments: Sequence[str]) -> int:
    """Run one command; every refusal is one line on stderr and a status other than 0."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        program = get_group(_asked_for(arguments))
        status = int(program(list(arguments), standalone_mode=False, prog_name="./testbed.sh") or 0)
        sys.stdout.flush()
        if status == INTERRUPTED:  # typer's own answer to KeyboardInterrupt
            terminal.error_line("interrupted")
        return status
    except CommandRefused as error:
        terminal.error_line(str(error))
        return error.exit_status
    except TyperException as error:
        terminal.error_line(f"{_usage_problem(error)} (see ./testbed.sh {_help_of(arguments)})")
        return 2
    except (ScenarioError, EmulationError) as error:
        terminal.error_line(str(error))
        return 1
    except RpcError as error:
        terminal.error_line(f"{error}; see ./testbed.sh status")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        terminal.error_line("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (| head): no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        terminal.error_line(_machine_problem(error))
        return 1


def _asked_for(arguments: Sequence[str]) -> typer.Typer:
    """The command or group that the first word names, alone: typer looks at every option of
    all commands that it is given, which takes longer than most commands. All for any other word."""
    word = arguments[0] if arguments else ""
    commands = [c for c in app.registered_commands if c.name == word]
    groups = [g for g in app.registered_groups if g.name == word]
    if not commands and not groups:
        return app
    alone = typer.Typer(**SETTINGS)
    alone.registered_commands, alone.registered_groups = commands, groups
    return alone


def _machine_problem(error: OSError) -> str:
    """A file, folder or socket that the machine did not give."""
    what = f"{error.filename}: " if error.filename else ""
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return f"{what}{error.strerror}; run it as root: sudo ./testbed.sh ..."
    return f"{what}{error.strerror or error}; see ./testbed.sh doctor"


def _interrupt(number: int, frame: FrameType | None) -> None:
    """INT, TERM and HUP all end a command through every `finally`."""
    raise KeyboardInterrupt


def _usage_problem(error: TyperException) -> str:
    describe = getattr(error, "format_message", None)
    text = describe() if describe else str(error)
    return " ".join(str(text).split()).rstrip(".")


def _help_of(arguments: Sequence[str]) -> str:
    """`--help` of the command that was meant, as far as it exists."""
    commands = {command.name: None for command in app.registered_commands}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    meant = list(arguments[:1]) if arguments[:1] and arguments[0] in {*commands, *groups} else []
    inside = groups.get(meant[0]) if meant else None
    if inside is not None and len(arguments) > 1:
        names = {command.name for command in inside.registered_commands}
        meant += [arguments[1]] if arguments[1] in names else []
    return " ".join([*meant, "--help"])
