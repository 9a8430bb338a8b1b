"""Commands about figures: measure, report, compare, bench."""

from __future__ import annotations

import ast
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.contracts import rpc_client as rpc
from topologies.checkout import REPOSITORY, environment_of_rooms
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.hosts import inventory_of, slice_of
from topologies.cli.northbound import running
from topologies.cli.running import Json
from topologies.cli.summary import compared, print_slices, print_summary, read_summary

BENCHMARKS = REPOSITORY / "benchmarks"

ResultFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `run` wrote.")]


def measure(
    slice_: Annotated[
        str | None, typer.Option("--slice", metavar="S", help="Name or S-NSSAI; all when left out.")
    ] = None,
    duration: Annotated[float, typer.Option(metavar="S", help="Seconds.", min=1)] = 5.0,
    as_json: Json = False,
) -> None:
    """Measure the running testbed's live traffic for a while.

    \b
    Examples:
      ./testbed.sh measure
      ./testbed.sh measure --slice urllc --duration 10 --json
    """
    run = running()
    name = None
    if slice_ is not None:
        name = slice_of(inventory_of(run), slice_).name
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(
                rpc.call(
                    run.emulation_socket,
                    "measure",
                    duration + 30.0,
                    duration_s=duration,
                    slice=name,
                )
            )
        except rpc.RpcError as error:
            answers.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    terminal.wait_with_progress("measuring", duration, lambda: bool(answers))
    asking.join()
    answer = answers[0]
    if isinstance(answer, rpc.RpcError):
        raise CommandRefused(f"the emulation could not measure: {answer}")
    if as_json:
        terminal.print_json(answer)
        return
    print_slices(answer["slices"])


def report(folder: ResultFolder, as_json: Json = False) -> None:
    """Print the table of a finished run and make its report.html anew from its tables.

    \b
    Examples:
      ./testbed.sh report results/demo
      ./testbed.sh report results/demo --json      # summary.json
    """
    summary = read_summary(folder)
    if as_json:
        terminal.print_json(summary)
        return
    print_summary(summary)
    from topologies.results.report import write_report  # pyarrow takes long to import

    try:
        with terminal.signs_of_life("drawing the report"):
            page = write_report(folder)
    except FileNotFoundError as error:
        missing = f"{error.filename} is missing; measure again with ./testbed.sh run"
        raise CommandRefused(missing) from error
    print(f"report: {page}")


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR")], as_json: Json = False
) -> None:
    """Print the figures of several runs side by side, one line per run and slice.

    \b
    Example:
      ./testbed.sh compare results/demo results/crossroads-static-*
    """
    rows = compared(folders)
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_table(tuple(rows[0]) if rows else (), rows)


def bench(
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENT")] = None,
) -> None:
    """Run a benchmark; without a name, list them.

    \b
    Examples:
      ./testbed.sh bench
      ./testbed.sh bench goodput
      ./testbed.sh bench policies --help
    """
    known = benchmarks()
    if name is None:
        rows = [{"name": key, "what it measures": text} for key, text in known.items()]
        terminal.print_table(("name", "what it measures"), rows)
        return
    if name not in known:
        raise CommandRefused(f"unknown benchmark {name!r}; known: {', '.join(known)}")
    sys.stdout.flush()
    program = [sys.executable, "-P", "-m", f"benchmarks.{name}", *(arguments or [])]
    os.execve(sys.executable, program, environment_of_rooms())


def benchmarks() -> dict[str, str]:
    """Name and first line of each module in benchmarks/ that has a `main`."""
    found = {}
    for path in sorted(BENCHMARKS.glob("*.py")):
        module = ast.parse(path.read_text())
        functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
        if "main" in functions:
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return found
