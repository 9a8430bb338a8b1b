"""`replay`: a recorded run's twins served again to xApps, over the same northbound API."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from topologies.checkout import RESULTS, environment_of_rooms
from topologies.cli import terminal
from topologies.cli.running import Json

REFUSED = 1


def replay(
    recording: Annotated[Path, typer.Argument(metavar="DIR", help="Results of a run.")],
    xapp: Annotated[
        list[str] | None,
        typer.Option("--xapp", metavar="DIR", help="An xApp's folder or name. Repeatable."),
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="Times real time.")] = 1.0,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the API; default: the run's. 0: any.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go (a folder in results/).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve a recorded run's twins and stream again; decisions are guarded, not enforced.

    The xApp reads and sends what it would live, and the answer's reason says `replayed`.  Without
    --xapp the recording waits for the first subscriber and plays for it.

    \b
    Examples:
      ./testbed.sh replay results/demo --xapp slice-planner --speed 10
      ./testbed.sh replay results/demo --xapp my-xapp --out results/what-mine-would-have-done
    """
    folder = (out or default_folder(recording)).resolve()
    arguments = [str(recording.resolve()), "--out", str(folder), "--speed", str(speed)]
    arguments += [word for where in xapp or () for word in ("--xapp", where)]
    arguments += [] if port is None else ["--port", str(port)]
    program = [sys.executable, "-P", "-m", "controller.replay", *arguments]
    # Its own lines go to stderr with --json: what is on stdout is the document alone.
    status = subprocess.run(
        program,
        env=environment_of_rooms(),
        stdout=sys.stderr if as_json else None,
    ).returncode
    if status != 0:
        raise typer.Exit(REFUSED)
    document = json.loads((folder / "replay.json").read_text())
    if as_json:
        terminal.print_json(document)
    else:
        _show(document, folder)


def default_folder(recording: Path) -> Path:
    """results/replay-<recording>-<time> of this checkout."""
    return RESULTS / f"replay-{recording.resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _show(document: dict[str, Any], folder: Path) -> None:
    decisions, likeness = document["decisions"], document["as_recorded"]
    print(
        f"{document['scenario']}: {document['windows']} windows of {document['duration_s']:.0f} s "
        f"at {document['speed']:g} times real time"
    )
    counts = ", ".join(f"{count} {verdict}" for verdict, count in decisions.items())
    print(f"decisions: {counts} (guarded and recorded, nothing was enforced)")
    if likeness["same"] + likeness["only_recorded"]:
        print(
            f"against the recorded run: {likeness['same']} the same, "
            f"{likeness['only_recorded']} only there, {likeness['only_replayed']} only here"
        )
    print(f"tables and replay.json: {terminal.shown(folder)}")
