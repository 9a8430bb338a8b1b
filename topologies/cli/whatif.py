"""`whatif`: fork the twins of the running testbed, predict, compare, apply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from topologies.cli import terminal
from topologies.cli.changes import DryRun, print_diff
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound
from topologies.cli.running import Json

COLUMNS = ("fork_id", "name", "state", "satisfied_ratio", "reserved_kbps", "score", "decisions")
SIMPLE = ("hold", "static", "proportional", "follow")

commands = typer.Typer(
    help="Fork the twins, predict strategies, apply the best.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Horizon = Annotated[float, typer.Option("--horizon", min=1, max=60, help="Seconds ahead.")]
ForkId = Annotated[str, typer.Argument(metavar="FORK")]


def strategy_of(words: str) -> dict[str, Any]:
    """A kind, `handover:UE:CELL`, or a JSON or YAML file with the whole document."""
    if words in SIMPLE:
        return {"kind": words}
    if words.startswith("handover:"):
        parts = words.split(":")
        if len(parts) == 3 and all(parts):
            return {"kind": "handover", "ue_id": parts[1], "cell_id": parts[2]}
        raise CommandRefused(f"strategy {words!r}: expected handover:UE:CELL", 2)
    path = Path(words)
    if path.is_file():
        import yaml  # takes long to load, and few strategies are files

        try:
            document = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise CommandRefused(f"{path}: {' '.join(str(error).split())}") from None
        if isinstance(document, dict):
            return document
        raise CommandRefused(f"{path}: a mapping with `kind` was expected")
    known = ", ".join((*SIMPLE, "handover:UE:CELL"))
    raise CommandRefused(f"unknown strategy {words!r}; known: {known}, or a file", 2)


def _row(fork: dict[str, Any]) -> dict[str, Any]:
    prediction = fork["prediction"] or {}
    shown = {k: prediction.get(k) for k in ("satisfied_ratio", "reserved_kbps", "score")}
    verdicts = ", ".join(d["verdict"] for d in fork["decisions"])
    return {**fork, **shown, "decisions": verdicts}


def _show(forks: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        terminal.print_json(forks)
    else:
        terminal.print_table(COLUMNS, [_row(fork) for fork in forks])


@commands.command("fork")
def fork(
    strategies: Annotated[list[str], typer.Argument(metavar="STRATEGY")],
    name: Annotated[str, typer.Option(help="For one strategy; default: its kind.")] = "",
    as_json: Json = False,
) -> None:
    """Fork the live network once for each strategy.

    \b
    Strategies: hold, static, proportional, follow, handover:UE:CELL, or a file with a document.
    Examples:
      ./testbed.sh whatif fork hold static proportional follow
      ./testbed.sh whatif fork handover:car1:mbs
      ./testbed.sh whatif fork plan.yaml --name careful
    """
    documents = [strategy_of(words) for words in strategies]
    with northbound() as api:
        made = [api.post("whatif", {"name": name, "strategy": d}) for d in documents]
    _show(made, as_json)


@commands.command("list")
def list_(as_json: Json = False) -> None:
    """List the forks and their last prediction.

    \b
    Example:
      ./testbed.sh whatif list
    """
    with northbound() as api:
        _show(api.get("whatif"), as_json)


@commands.command("show")
def show(fork_id: ForkId, as_json: Json = False) -> None:
    """Show a fork: strategy, prediction per slice, and its error once it was applied.

    \b
    Example:
      ./testbed.sh whatif show f-1a2b3c4d --json
    """
    with northbound() as api:
        document = api.get(f"whatif/{fork_id}")
    if as_json:
        terminal.print_json(document)
        return
    _show([document], False)
    if document["prediction"]:
        terminal.print_table(
            ("s_nssai", "satisfied_ratio", "offered_kbps", "delivered_kbps", "owd_p95_ms"),
            document["prediction"]["slices"],
        )
    if document["comparison"]:
        terminal.print_table(
            ("s_nssai", "error_ratio", "satisfied_error"), document["comparison"]["slices"]
        )


@commands.command("predict")
def predict(fork_id: ForkId, horizon_s: Horizon = 5.0, as_json: Json = False) -> None:
    """Run a fork ahead from the newest twins.

    \b
    Example:
      ./testbed.sh whatif predict f-1a2b3c4d --horizon 10
    """
    with northbound() as api:
        document = api.post(f"whatif/{fork_id}/predict", {"horizon_s": horizon_s})
    _show([document], as_json)


@commands.command("compare")
def compare(
    fork_ids: Annotated[list[str] | None, typer.Argument(metavar="FORK")] = None,
    horizon_s: Horizon = 5.0,
    as_json: Json = False,
) -> None:
    """Predict forks (all, if none is named) from one moment; the best stands first.

    \b
    Example:
      ./testbed.sh whatif compare --horizon 10
    """
    with northbound() as api:
        ranked = api.post("whatif/compare", {"fork_ids": fork_ids or [], "horizon_s": horizon_s})
    _show(ranked, as_json)


@commands.command("apply")
def apply(
    fork_id: ForkId, horizon_s: Horizon = 5.0, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Send a fork's strategy as decisions through the guard; it is scored after the horizon.

    \b
    Examples:
      ./testbed.sh whatif apply f-1a2b3c4d --dry-run
      ./testbed.sh whatif apply f-1a2b3c4d
    """
    body = {"horizon_s": horizon_s, "dry_run": dry_run}
    with northbound() as api:
        answer = api.post(f"whatif/{fork_id}/apply", body)
    if as_json:
        terminal.print_json(answer)
        return
    columns = ("decision_id", "action", "target", "verdict", "reason")
    terminal.print_table(columns, answer["decisions"])
    if dry_run:
        for decision in answer["decisions"]:
            print_diff(decision["diff"])
    refused = [d for d in answer["decisions"] if d["verdict"] != "applied"]
    if refused:
        raise CommandRefused(f"{len(refused)} of {len(answer['decisions'])} were not applied")


@commands.command("delete")
def delete(fork_ids: Annotated[list[str], typer.Argument(metavar="FORK")]) -> None:
    """Forget forks; the live network stays as it is.

    \b
    Example:
      ./testbed.sh whatif delete f-1a2b3c4d
    """
    with northbound() as api:
        for fork_id in fork_ids:
            api.delete(f"whatif/{fork_id}")
            print(f"{fork_id} deleted")
