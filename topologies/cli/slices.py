"""Commands of a slice's life, and the operator's own reservations and handovers."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from controller.contracts.traffic_class import TrafficClass
from topologies.cli.changes import DryRun, print_decision, print_slice_change
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import Northbound, northbound
from topologies.cli.running import Json

SliceName = Annotated[
    str, typer.Argument(metavar="SLICE", help="Name, S-NSSAI (1-000001) or slice_id.")
]
CellName = Annotated[str, typer.Argument(metavar="CELL", help="As `cell list` shows it.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="A user; may be repeated.")]
Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="An access point; may be repeated. All if none.")
]
Reserve = Annotated[
    list[str] | None,
    typer.Option("--reserve", metavar="CELL=MIN[:MAX]", help="Mbit/s on an access point (L2)."),
]
Guaranteed = Annotated[
    float | None, typer.Option("--guaranteed-mbps", help="The SLA's rate, network wide.")
]
DelayMs = Annotated[
    float | None, typer.Option("--delay-ms", help="The SLA's bound of the 95th percentile.")
]
LossRatio = Annotated[float | None, typer.Option("--loss-ratio", help="The SLA's bound of loss.")]
UserMax = Annotated[float | None, typer.Option("--user-max-mbps", help="Limit of each user.")]


def create(
    what: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A YAML file, or the new slice's name.")
    ],
    sst: Annotated[int, typer.Option("--sst", help="Slice/service type, 1-255.")] = 1,
    sd: Annotated[str | None, typer.Option("--sd", help="Slice differentiator, 6 hex.")] = None,
    guaranteed_mbps: Guaranteed = None,
    delay_ms: DelayMs = None,
    loss_ratio: LossRatio = None,
    traffic_class: Annotated[TrafficClass, typer.Option("--class")] = TrafficClass.ELASTIC,
    users: Users = None,
    cells: Cells = None,
    reserve: Reserve = None,
    no_reservation: Annotated[
        bool, typer.Option("--no-reservation", help="Hold nothing; an xApp plans it.")
    ] = False,
    user_max_mbps: UserMax = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="NAME:CLASS:SERVER:PORT", help="May be repeated."),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create a slice on the running testbed: admitted, enforced, confirmed, or refused.

    \b
    Examples:
      ./testbed.sh slice create gaming.yaml --dry-run
      ./testbed.sh slice create gaming --guaranteed-mbps 0.5 --user car1 --user car2
      ./testbed.sh slice create game --sst 2 --guaranteed-mbps 0.3 --class real_time --user car1 \\
          --cell sbs1 --service play:real_time:edge1:6000 --reserve sbs1=0.3
    """
    if what.endswith((".yaml", ".yml")):
        specs = _specs_in(Path(what))
    else:
        sla = {"guaranteed_mbps": guaranteed_mbps, **_sla_terms(delay_ms, loss_ratio)}
        if guaranteed_mbps is None:
            raise CommandRefused("--guaranteed-mbps is missing: what is the slice promised?", 2)
        specs = [
            {
                "name": what,
                "s_nssai": {"sst": sst, **({} if sd is None else {"sd": sd})},
                "sla": sla,
                "default_class": traffic_class.value,
                **_given(users=users, cells=cells, user_max_mbps=user_max_mbps),
                **({"reservations": []} if no_reservation else {}),
                **_given(reservations=_reservations(reserve)),
                **_given(services=[_service(text) for text in service or []]),
            }
        ]
    with northbound() as api:
        for spec in specs:
            made = api.post(f"slices?dry_run={_flag(dry_run)}", spec)
            print_slice_change(made, as_json)


def _specs_in(file: Path) -> list[dict[str, Any]]:
    from topologies.cli.slice_files import specs_in  # the schema takes long to load

    return specs_in(file)


def admit(
    what: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file as `create` takes.")],
    as_json: Json = False,
) -> None:
    """Ask whether a slice would be admitted, with the numbers of every link; change nothing.

    \b
    Example:
      ./testbed.sh slice admit gaming.yaml
    """
    specs = _specs_in(what)
    with northbound() as api:
        for spec in specs:
            answer = api.post("slices?dry_run=true", spec)
            if as_json:
                print_slice_change(answer, True)
            else:
                print_slice_change({**answer, "diff": {}}, False)


def update(
    wanted: SliceName,
    guaranteed_mbps: Guaranteed = None,
    delay_ms: DelayMs = None,
    loss_ratio: LossRatio = None,
    add_users: Annotated[list[str] | None, typer.Option("--add-user")] = None,
    remove_users: Annotated[list[str] | None, typer.Option("--remove-user")] = None,
    reserve: Reserve = None,
    user_max_mbps: UserMax = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Resize a slice, change its SLA, add or remove users.

    \b
    Examples:
      ./testbed.sh slice update gaming --reserve sbs1=0.2:2 --dry-run
      ./testbed.sh slice update gaming --guaranteed-mbps 1.5 --delay-ms 20
      ./testbed.sh slice update gaming --add-user phone1 --remove-user car2
    """
    with northbound() as api:
        changes = {
            **_given(add_users=add_users, remove_users=remove_users, user_max_mbps=user_max_mbps),
            **_given(reservations=_reservations(reserve)),
        }
        terms = _sla_terms(delay_ms, loss_ratio)
        if guaranteed_mbps is not None or terms:
            now = api.get(f"slices/{quote(wanted, safe='')}")["sla"]
            changes["sla"] = {**now, **_given(guaranteed_mbps=guaranteed_mbps), **terms}
        if not changes:
            raise CommandRefused("nothing to change; see ./testbed.sh slice update --help", 2)
        path = f"slices/{quote(wanted, safe='')}?dry_run={_flag(dry_run)}"
        print_slice_change(api.patch(path, changes), as_json)


def delete(wanted: SliceName, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Terminate a slice: its rules, meters, queues and addresses go.

    \b
    Example:
      ./testbed.sh slice delete gaming
    """
    with northbound() as api:
        path = f"slices/{quote(wanted, safe='')}?dry_run={_flag(dry_run)}"
        print_slice_change(api.delete(path), as_json)


def cover(
    wanted: SliceName,
    cell_id: CellName,
    min_mbps: Annotated[float | None, typer.Option("--min-mbps", help="Guaranteed there.")] = None,
    max_mbps: Annotated[float | None, typer.Option("--max-mbps", help="Ceiling there.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Add a slice to an access point; without rates it gets what its SLA guarantees.

    \b
    Example:
      ./testbed.sh slice cover gaming sbs2 --min-mbps 0.2
    """
    rates = "".join(f"&{k}={v}" for k, v in _given(min_mbps=min_mbps, max_mbps=max_mbps).items())
    with northbound() as api:
        path = f"{_cell_path(wanted, cell_id)}?dry_run={_flag(dry_run)}{rates}"
        print_slice_change(api.put(path), as_json)


def uncover(
    wanted: SliceName, cell_id: CellName, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Take a slice off an access point: its packets are dropped there, and counted.

    \b
    Example:
      ./testbed.sh slice uncover gaming sbs2 --dry-run
    """
    with northbound() as api:
        path = f"{_cell_path(wanted, cell_id)}?dry_run={_flag(dry_run)}"
        print_slice_change(api.delete(path), as_json)


def reserve(
    wanted: SliceName,
    cell_id: CellName,
    min_mbps: Annotated[float, typer.Argument(metavar="MIN", help="Guaranteed, Mbit/s (L2).")],
    max_mbps: Annotated[float, typer.Argument(metavar="MAX", help="Ceiling, Mbit/s (L2).")],
    traffic_class: Annotated[TrafficClass | None, typer.Option("--class")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Reserve for a slice on an access point by hand: the decision an xApp would make.

    \b
    Examples:
      ./testbed.sh slice reserve embb sbs1 4 8 --dry-run
      ./testbed.sh slice reserve urllc sbs1 0.8 0.8
    """
    with northbound() as api:
        s_nssai = api.get(f"slices/{quote(wanted, safe='')}")["s_nssai"]
        target = {"cell_id": cell_id, "s_nssai": s_nssai}
        rates = {"min_kbps": round(min_mbps * 1000), "max_kbps": round(max_mbps * 1000)}
        if traffic_class is not None:
            rates |= {"traffic_class": traffic_class.value}  # type: ignore[dict-item]
        decide(api, "reserve", target, rates, dry_run, as_json)


def handover(
    ue_id: Annotated[str, typer.Argument(metavar="UE", help="As `ue list` shows it.")],
    cell_id: CellName,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Hand a user over to another cell by hand.

    \b
    Example:
      ./testbed.sh ue handover car1 sbs2 --dry-run
    """
    with northbound() as api:
        decide(api, "handover", {"ue_id": ue_id}, {"cell_id": cell_id}, dry_run, as_json)


def decide(
    api: Northbound,
    action: str,
    target: dict[str, Any],
    parameters: dict[str, Any],
    dry_run: bool,
    as_json: bool,
) -> None:
    """A decision in the operator's name; refused when it is not applied."""
    record = api.post(
        "decisions",
        {
            "trace_id": uuid.uuid4().hex,
            "xapp": "operator",
            "action": action,
            "target": target,
            "parameters": parameters,
            "dry_run": dry_run,
        },
    )
    if record["verdict"] != "applied":
        raise CommandRefused(f"{action} {record['verdict']}: {record['reason']}")
    print_decision(record, as_json)


# -- what was written --------------------------------------------------------------


def _sla_terms(delay_ms: float | None, loss_ratio: float | None) -> dict[str, Any]:
    bound = None if delay_ms is None else {"percentile": 95, "bound_ms": delay_ms}
    return _given(delay=bound, loss_ratio=loss_ratio)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, [])}


def _reservations(texts: list[str] | None) -> list[dict[str, Any]] | None:
    """`sbs1=2.5:4` -> access point, min and max in Mbit/s."""
    found = []
    for text in texts or []:
        cell_id, _, rates = text.partition("=")
        low, _, high = rates.partition(":")
        try:
            item = {"access_point": cell_id, "min_mbps": float(low)}
            found.append(item | ({"max_mbps": float(high)} if high else {}))
        except ValueError:
            raise CommandRefused(f"--reserve {text!r}: write CELL=MIN or CELL=MIN:MAX", 2) from None
    return found or None


def _service(text: str) -> dict[str, Any]:
    try:
        name, traffic_class, host, port = text.split(":")
        return {
            "name": name, "traffic_class": traffic_class, "host": host, "port": int(port),
        }  # fmt: skip
    except ValueError:
        raise CommandRefused(f"--service {text!r}: write NAME:CLASS:SERVER:PORT", 2) from None


def _cell_path(wanted: str, cell_id: str) -> str:
    return f"slices/{quote(wanted, safe='')}/cells/{quote(cell_id, safe='')}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def add_to_slices(group: typer.Typer) -> None:
    for command in (create, admit, update, delete, cover, uncover, reserve):
        group.command(command.__name__)(command)


def add_to_users(group: typer.Typer) -> None:
    group.command("handover")(handover)
