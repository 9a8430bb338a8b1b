"""`twin budget` and `twin represent`: what twins may cost, and who stands for whom."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound
from topologies.cli.running import Json

commands = typer.Typer(help="What keeping twins may cost, and what it costs.", no_args_is_help=True)


@commands.command("set")
def set_(
    bytes_per_s: Annotated[float, typer.Option(help="On the wire, all edges together.")],
    processor_ratio: Annotated[
        float | None, typer.Option(help="Of one core, all local controllers together.")
    ] = None,
    spending: Annotated[str, typer.Option(help="automatic or uniform.")] = "automatic",
    as_json: Json = False,
) -> None:
    """Limit what twins cost; periods and precision of users' reports follow.

    \b
    Examples:
      ./testbed.sh twin budget set --bytes-per-s 6000
      ./testbed.sh twin budget set --bytes-per-s 6000 --processor-ratio 0.05
      ./testbed.sh twin budget set --bytes-per-s 6000 --spending uniform
    """
    wanted = {
        "bytes_per_s": bytes_per_s,
        "processor_ratio": processor_ratio,
        "spending": spending,
    }
    with northbound() as api:
        _show(api.put("twin-budget", wanted), as_json)


@commands.command("show")
def show(as_json: Json = False) -> None:
    """What twins cost now, per edge and user, beside what they may cost.

    \b
    Examples:
      ./testbed.sh twin budget show
      ./testbed.sh twin budget show --json
    """
    with northbound() as api:
        _show(api.get("twin-budget"), as_json)


@commands.command("clear")
def clear(as_json: Json = False) -> None:
    """No limit: twin models are as their documents and `twin configure` say.

    \b
    Examples:
      ./testbed.sh twin budget clear
    """
    with northbound() as api:
        _show(api.delete("twin-budget"), as_json)


def _show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.print_json(document)
        return
    budget, total = document["budget"], document["total"]
    limit = f"{budget['bytes_per_s']:g}" if budget else "no limit"
    print(f"bytes/s: {total['bytes_per_s']:.0f} of {limit}", end="")
    print(f" ({budget['spending']})" if budget else "")
    ratio = budget["processor_ratio"] if budget else None
    print(f"processor: {total['processor_ratio']:.3f} of {ratio or 'no limit'}")
    if document["unreachable"]:
        print(f"no answer from {', '.join(document['unreachable'])}")
    terminal.print_table(("edge", "bytes_per_s", "processor_ratio"), document["edges"])
    terminal.print_table(
        ("ue_id", "bytes_per_s", "period_ms", "coarse", "weight"), document["users"]
    )


def represent(
    users: Annotated[int | None, typer.Option(help="So many of each edge.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everybody has an own twin.")] = False,
    period_ms: Annotated[int, typer.Option(help="Of the reports of the others.")] = 4000,
    seed: Annotated[int, typer.Option(help="Decides between equals.")] = 0,
    as_json: Json = False,
) -> None:
    """Let some users stand for those who are like them; without options, show who does.

    \b
    Examples:
      ./testbed.sh twin represent --users 4
      ./testbed.sh twin represent --all
      ./testbed.sh twin represent --json
    """
    if all_ and users is not None:
        raise CommandRefused("either --users or --all", 2)
    with northbound() as api:
        if all_:
            document = api.delete("twin-representatives")
        elif users is not None:
            wanted = {"users": users, "period_ms": period_ms, "seed": seed}
            document = api.put("twin-representatives", wanted)
        else:
            document = api.get("twin-representatives")
    if as_json:
        terminal.print_json(document)
        return
    if document["represented"] is None:
        print("everybody stands for themselves")
        return
    print(f"{document['represented']['users']} of each edge stand for the others")
    terminal.print_table(("representative", "stands_for"), document["clusters"])


def add_to(group: typer.Typer) -> typer.Typer:
    group.command("represent")(represent)
    group.add_typer(commands, name="budget")
    return group
