"""Commands for working on the testbed itself: test, train, models."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from topologies.checkout import REPOSITORY, environment_of_rooms
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.running import Json
from topologies.cli.whole_suite import STAGES, run_parts

MODELS = REPOSITORY / "models"

models_commands = typer.Typer(
    help="List and check the trained models.", no_args_is_help=True, rich_markup_mode="rich"
)


def test(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENT")] = None,
) -> None:
    """Run the test suite; anything after `test` goes to pytest.

    Without anything after it the kinds that need no testbed run beside each other first, which
    is faster; with it, one pytest runs what it is told.

    \b
    Examples:
      ./testbed.sh test
      ./testbed.sh test -m unit
      ./testbed.sh test tests/emulated/test_testbed.py -x
    """
    sys.stdout.flush()
    os.chdir(REPOSITORY)
    if not arguments:
        raise typer.Exit(run_parts(REPOSITORY / "tests", STAGES))
    program = [sys.executable, "-m", "pytest", *arguments]
    os.execve(sys.executable, program, environment_of_rooms())


def train(
    model: Annotated[str | None, typer.Argument(metavar="MODEL")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENT")] = None,
) -> None:
    """Train a model anew and export it to ONNX; arguments go to its training program.

    \b
    Examples:
      ./testbed.sh train demand_forecast
      ./testbed.sh train demand_forecast --help
    """
    known = [path.parent.name for path in sorted(MODELS.glob("*/train.py"))]
    if model is None or model.replace("-", "_") not in known:
        what = "which model?" if model is None else f"unknown model {model!r};"
        raise CommandRefused(f"{what} known: {', '.join(known) or 'none'}", 2)
    sys.stdout.flush()
    module = f"models.{model.replace('-', '_')}.train"
    program = [sys.executable, "-P", "-m", module, *(arguments or [])]
    os.execve(sys.executable, program, environment_of_rooms())


def model_cards() -> dict[str, dict[str, Any]]:
    """model.json of every model, by its folder's name."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(MODELS.glob("*/model.json"))
    }


@models_commands.command("list")
def list_(as_json: Json = False) -> None:
    """List the models that ship with the testbed.

    \b
    Examples:
      ./testbed.sh models list
      ./testbed.sh models list --json
    """
    rows = [{"model": name, **card} for name, card in model_cards().items()]
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_table(("model", "description", "opset", "sha256"), rows)


@models_commands.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL")] = None,
) -> None:
    """Check that each model file is the one its model.json describes, and that it runs.

    \b
    Examples:
      ./testbed.sh models verify
      ./testbed.sh models verify demand_forecast
    """
    cards = model_cards()
    unknown = set(names or ()) - set(cards)
    if unknown:
        raise CommandRefused(f"unknown model {min(unknown)!r}; known: {', '.join(cards)}")
    for name in names or cards:
        problem = problem_of(MODELS / name, cards[name])
        if problem:
            again = f"make it again: ./testbed.sh train {name}"
            raise CommandRefused(f"model {name}: {problem}; {again}")
        print(f"{name}: verified")


def problem_of(folder: Path, card: dict[str, Any]) -> str | None:
    """What is wrong with a model, in words; None when it matches its card and loads."""
    file = folder / card.get("file", "model.onnx")
    if not file.is_file():
        return f"{file} is missing"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != card["sha256"]:
        return f"{file.name} has SHA-256 {found[:12]}..., model.json says {card['sha256'][:12]}..."
    wanted = [item["name"] for item in card["inputs"]]
    program = (
        "import sys, onnxruntime as o; "
        "s = o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']); "
        "print(*[i.name for i in s.get_inputs()])"
    )
    # In a process of its own: a broken file can end onnxruntime's process.
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True
    )
    if done.returncode != 0:
        return f"{file.name} cannot be loaded: {done.stderr.strip().splitlines()[-1]}"
    inputs = done.stdout.split()
    return None if inputs == wanted else f"its inputs are {inputs}, model.json says {wanted}"
