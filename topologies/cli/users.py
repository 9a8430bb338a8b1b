"""Decisions about single users by hand: shares in a slice, copies of twins ahead of handovers."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from topologies.cli.changes import DryRun
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound
from topologies.cli.running import Json
from topologies.cli.slices import SliceName, decide


def schedule(
    wanted: SliceName,
    users: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="UE=SHARE", help="0-1 of the slice's rate; repeatable."),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Nobody is limited by a share any more.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Set users' shares within a slice, all of them: what each may be sent in its cell at most.

    \b
    Examples:
      ./testbed.sh slice schedule embb --user car1=0.6 --user phone1=0.3 --dry-run
      ./testbed.sh slice schedule embb --clear
    """
    shares = dict(_share(text) for text in users or [])
    if bool(shares) == clear:
        raise CommandRefused("write --user UE=SHARE, once or more, or --clear", 2)
    with northbound() as api:
        s_nssai = api.get(f"slices/{quote(wanted, safe='')}")["s_nssai"]
        decide(api, "schedule", {"s_nssai": s_nssai}, {"shares": shares}, dry_run, as_json)


def _share(text: str) -> tuple[str, float]:
    ue_id, _, share = text.partition("=")
    try:
        return ue_id, float(share)
    except ValueError:
        raise CommandRefused(f"--user {text!r}: write UE=SHARE, such as car1=0.6", 2) from None


def migrate_twin(
    ue_id: Annotated[str, typer.Argument(metavar="UE", help="As `ue list` shows it.")],
    to: Annotated[str, typer.Option("--to", metavar="EDGE", help="Where it will be needed.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send a copy of a user's twin to another edge, ahead of its handover.

    \b
    Example:
      ./testbed.sh twin migrate car1 --to edge2
    """
    with northbound() as api:
        decide(api, "migrate_twin", {"ue_id": ue_id}, {"edge": to}, dry_run, as_json)


def offload(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A task service.")],
    ue_id: Annotated[str, typer.Option("--user", metavar="UE", help="Whose tasks.")],
    to: Annotated[
        str, typer.Option("--to", metavar="PLACE", help="A service that does the same, or device.")
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Choose where a user's tasks for a service are worked on, from its next request on.

    \b
    Examples:
      ./testbed.sh service offload archive --user car1 --to archive-near
      ./testbed.sh service offload archive --user car1 --to device --dry-run
    """
    with northbound() as api:
        target = {"ue_id": ue_id, "service": service}
        decide(api, "offload", target, {"to": to}, dry_run, as_json)


def adapt_link(
    ue_id: Annotated[str, typer.Argument(metavar="UE", help="As `ue list` shows it.")],
    max_cqi: Annotated[
        int | None, typer.Option("--max-cqi", min=1, max=15, help="None: as the channel allows.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Limit the modulation and coding of a user's radio link; without a limit, lift it.

    \b
    Examples:
      ./testbed.sh ue adapt car1 --max-cqi 7
      ./testbed.sh ue adapt car1
    """
    with northbound() as api:
        decide(api, "adapt_link", {"ue_id": ue_id}, {"max_cqi": max_cqi}, dry_run, as_json)


def add_to_users(group: typer.Typer) -> None:
    group.command("adapt")(adapt_link)


def add_to_services(group: typer.Typer) -> None:
    group.command("offload")(offload)


def add_to_slices(group: typer.Typer) -> None:
    group.command("schedule")(schedule)


def add_to_twins(group: typer.Typer) -> None:
    group.command("migrate")(migrate_twin)
