"""`service migrate`: moving a running service to another server, as a decision."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from topologies.cli import terminal
from topologies.cli.changes import DryRun, print_diff
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound

MIGRATION_TIMEOUT_S = 90.0
VALID_FOR_MS = 60_000


def decide(action: str, target: dict[str, Any], parameters: dict[str, Any], dry_run: bool) -> Any:
    """The operator's decision; its record. Refused when it was not applied."""
    with northbound(MIGRATION_TIMEOUT_S) as api:
        record = api.post(
            "decisions",
            {
                "trace_id": f"operator-{uuid.uuid4().hex[:12]}",
                "xapp": "operator",
                "action": action,
                "target": target,
                "parameters": parameters,
                "valid_for_ms": VALID_FOR_MS,
                "dry_run": dry_run,
            },
        )
    if record["verdict"] != "applied":
        raise CommandRefused(f"{action} {record['verdict']}: {record['reason']}")
    return record


def migrate(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    to: Annotated[str, typer.Option("--to", metavar="HOST", help="Server to move to.")],
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Move a running task service with its state to another server.

    \b
    Examples:
      ./testbed.sh service migrate assist1 --to edge2
      ./testbed.sh service migrate assist1 --to edge2 --dry-run --json
    """
    record = decide("migrate", {"service": name}, {"host": to}, dry_run)
    if as_json:
        terminal.print_json(record)
    elif dry_run:
        print_diff(record["diff"])
        print(f"would copy the state of {name} to {to} first; nothing was changed")
    else:
        cost = record["effect_detail"]
        rounds = ", ".join(f"{r['state_bytes'] / 1000:.0f}" for r in cost["rounds"])
        print(f"{name}: {cost['source']} -> {cost['target']} in {cost['duration_ms']:.0f} ms")
        print(f"downtime {cost['downtime_ms']:.1f} ms; {cost.get('relayed', 0)} requests passed on")
        print(f"state {cost['state_bytes']} bytes, on the wire {cost['wire_bytes']}")
        print(f"rounds (kB): {rounds}")
