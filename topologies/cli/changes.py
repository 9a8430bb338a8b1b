"""How commands show what a change of the network did, or with --dry-run would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from topologies.cli import terminal

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Change nothing; show the flows, meters, queues that would."),
]

IN_PORT = 0xFFFF_FFF8
_SIGNS = {"added": "+", "modified": "~", "replaced": "~", "deleted": "-"}


def print_diff(diff: Mapping[str, Any]) -> None:
    """By switch: `+` added, `~` changed, `-` removed."""
    lines = dict(_by_switch(diff))
    if not lines:
        print("nothing would change")
    for switch, items in lines.items():
        counts = {sign: sum(item.startswith(sign) for item in items) for sign in "+~-"}
        print(f"{switch}: " + ", ".join(f"{sign}{n}" for sign, n in counts.items() if n))
        for item in items:
            print(f"  {item}")


def _by_switch(diff: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for section, words in (("meters", _meter), ("flows", _flow)):
        for switch, changes in diff.get(section, {}).items():
            for name, items in changes.items():
                sign = _SIGNS[name.partition("_")[2]]
                found.setdefault(switch, []).extend(f"{sign} {words(item)}" for item in items)
    for interface, queues in diff.get("queues", {}).items():
        switch = interface.rpartition("_")[0]
        found.setdefault(switch, []).extend(_queues(interface, queues))
    for ue_id, way in diff.get("twins", {}).items():
        found.setdefault(way["to"], []).append(f"+ copy of the twin of {ue_id} at {way['from']}")
    for ue_id, tasks in diff.get("tasks", {}).items():
        moved = (f"~ tasks for {s}: {way['from']} -> {way['to']}" for s, way in tasks.items())
        found.setdefault(ue_id, []).extend(moved)
    for ue_id, link in diff.get("links", {}).items():
        found.setdefault(ue_id, []).append(f"~ radio link, at most CQI {link['max_cqi'] or 15}")
    yield from found.items()


def _meter(meter: Mapping[str, Any]) -> str:
    use = [str(meter[k]) for k in ("cell_id", "traffic_class", "direction") if meter.get(k)]
    of = f"slice {meter['slice_id']} " if "slice_id" in meter else ""
    return f"meter {meter['meter_id']} {meter['rate_kbps']} kbit/s ({of}{' '.join(use)})"


def _flow(flow: Mapping[str, Any]) -> str:
    match = ",".join(f"{k}={v}" for k, v in flow["match"].items()) or "any"
    does = [" ".join(map(str, action)) for action in flow["actions"]]
    if flow["meter_id"] is not None:
        does.insert(0, f"meter {flow['meter_id']}")
    if flow["metadata"]:
        does.append(f"write {flow['metadata'][0]:#x}/{flow['metadata'][1]:#x}")
    if flow["goto"] is not None:
        does.append(f"goto {flow['goto']}")
    does = [word.replace(str(IN_PORT), "in_port") for word in does] or ["drop"]
    return f"flow table {flow['table_id']} priority {flow['priority']} {match} -> {', '.join(does)}"


def _queues(interface: str, queues: Mapping[str, Any]) -> Iterator[str]:
    for queue_id, change in queues.items():
        before, after = change["before"], change["after"]
        sign = "+" if before is None else "-" if after is None else "~"
        words = " -> ".join(_rates(r) for r in (before, after) if r is not None)
        yield f"{sign} queue {queue_id} on {interface} {words}"


def _rates(rates: Mapping[str, Any]) -> str:
    return f"{rates['min_kbps']}-{rates['max_kbps']} kbit/s"


def print_slice_change(change: Mapping[str, Any], as_json: bool) -> None:
    """What became of a slice: admission, switches, time; the difference with a dry run."""
    if as_json:
        terminal.print_json(change)
        return
    what = change["kind"].partition(".")[2]
    live = change["slice"]
    name = live["slice"]["name"]
    for room in change["admission"]:
        print(_room(room))
    if change["dry_run"]:
        print(f"dry run: {what} {name}; nothing was changed. It would:")
        print_diff(change["diff"])
        return
    for confirmation in change["confirmations"]:
        print(f"  {confirmation['switch']}: {confirmation['detail']}")
    print(f"{what} {name}: confirmed after {change['elapsed_ms']:.1f} ms")


def _room(room: Mapping[str, Any]) -> str:
    verdict = "fits" if room["fits"] else "does not fit"
    promised = ", ".join(f"{n} {kbps / 1000:g}" for n, kbps in room["promised_kbps"].items())
    shares = "" if room["share_kbps"] is None else ", its share by promise"
    return (
        f"{room['link']}: asked {room['asked_kbps'] / 1000:g} Mbit/s, "
        f"{room['left_kbps'] / 1000:g} left of {room['reservable_kbps'] / 1000:g} reservable"
        f"{shares}{'; promised: ' + promised if promised else ''}: {verdict}"
    )


def print_decision(record: Mapping[str, Any], as_json: bool) -> None:
    """A decision made by hand: its verdict, and the difference it made or would make."""
    if as_json:
        terminal.print_json(record)
        return
    print(f"{record['action']}: {record['verdict']}{': ' if record['reason'] else ''}", end="")
    print(record["reason"])
    print_diff(record["diff"])
