"""Commands about the testbed as a whole: setup, doctor, up, status, env, down, clean."""

from __future__ import annotations

import os
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.contracts import rpc_client as rpc
from controller.contracts.run_folder import RunFolder, current_run
from topologies.cli import descriptors, terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import northbound_port, running

if TYPE_CHECKING:  # what starting needs is not loaded for commands that only look
    from topologies.scenario.schema import Scenario

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="Name of a shipped scenario, or a YAML file.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of demand and mobility.", min=0)]
XappFolders = Annotated[
    list[Path] | None,
    typer.Option("--xapp", metavar="DIR", help="Also deploy the xApp in this folder. Repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the scenario, e.g. access_points.sbs1.down_mbps=10. Repeatable.",
    ),
]


class Policy(StrEnum):
    """Who decides about reservations."""

    XAPPS = "xapps"
    MODEL = "model"
    STATIC = "static"
    NONE = "none"
    PLACEBO = "placebo"


ChosenPolicy = Annotated[Policy, typer.Option(help="Who decides about reservations.")]


def setup(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what `test` and `train` need.")
    ] = False,
) -> None:
    """Install what is missing: Debian packages, and Python packages in .venv.

    testbed.sh has done that by the time this runs; it does nothing twice.

    \b
    Examples:
      ./testbed.sh setup
      ./testbed.sh setup --all      # then everything works without network
    """
    version = ".".join(str(part) for part in sys.version_info[:3])
    what = "running, testing and training" if everything else "running"
    print(f"set up for {what}: Python {version} in {sys.prefix}; next: ./testbed.sh demo")


def doctor(as_json: Json = False) -> None:
    """Say what this machine can do and what was chosen (datapath, delay).

    \b
    Examples:
      ./testbed.sh doctor
      ./testbed.sh doctor --json
    """
    from topologies import doctor as doctor_room

    with terminal.signs_of_life("trying what this machine can do"):
        report = doctor_room.examine()
    if as_json:
        terminal.print_json(report.as_json())
    else:
        for line in report.lines():
            terminal.stdout().print(line, markup=False)
    if not report.ok:
        raise typer.Exit(1)


def require_root() -> None:
    if os.geteuid() != 0:
        raise CommandRefused(
            "needs root for network namespaces and Open vSwitch; run: sudo ./testbed.sh ..."
        )


def checked(
    scenario: str,
    overrides: list[str] | None,
    seed: int | None,
    duration_s: float | None = None,
) -> Scenario:
    """The scenario as asked for; raises `ScenarioError` with every problem of it."""
    from topologies.scenario.loader import load

    options = [*(overrides or [])]
    if seed is not None:
        options.append(f"seed={seed}")
    if duration_s is not None:
        options.append(f"duration_s={duration_s}")
    return load(scenario, options)


def start(scenario: Scenario, policy: Policy, xapps: list[Path] | None) -> RunFolder:
    """Bring a testbed up, showing its steps."""
    from topologies import lifecycle

    require_root()
    for folder in xapps or []:
        if not (folder / "config-file.json").is_file():
            raise CommandRefused(
                f"{folder}: not an xApp's folder: it has no config-file.json; "
                "make one with ./testbed.sh xapp new NAME"
            )
        descriptors.checked(folder)
    return lifecycle.up(lifecycle.Start(scenario, policy.value, tuple(xapps or ())), terminal.step)


def up(
    scenario: ScenarioName,
    seed: Seed = None,
    policy: ChosenPolicy = Policy.XAPPS,
    xapp: XappFolders = None,
    overrides: Overrides = None,
) -> None:
    """Start a testbed in the background and return when it is ready.

    \b
    Examples:
      ./testbed.sh up minimal
      ./testbed.sh up crossroads --seed 7 --policy static
      ./testbed.sh up minimal --set access_points.ap1.down_mbps=10 --xapp my-xapp
    """
    started_s = time.monotonic()
    run = start(checked(scenario, overrides, seed), policy, xapp)
    port = northbound_port(run)
    print(
        f"run {run.run_id} is up after {time.monotonic() - started_s:.1f} s: "
        f"API http://127.0.0.1:{port}, token in {run.token}"
    )


def status(as_json: Json = False) -> None:
    """Show the running testbed and its processes.

    Ends with status 1 when none is up.

    \b
    Examples:
      ./testbed.sh status
      ./testbed.sh status --json
    """
    run = current_run()
    found = None if run is None else _status_of(run)
    if as_json:
        terminal.print_json(found or {"run_id": None, "ready": False, "processes": []})
    elif found:
        _print_status(found)
    if found is None:
        if not as_json:
            terminal.error_line("no testbed is up; start one with ./testbed.sh up minimal")
        raise typer.Exit(1)


def _status_of(run: RunFolder) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = rpc.call(run.emulation_socket, "status", 5.0)
    except rpc.RpcError:
        from topologies import cleanup

        if not cleanup.is_alive(run):
            raise CommandRefused(
                f"run {run.run_id} is broken: its emulation process is gone; "
                "remove what is left with ./testbed.sh clean"
            ) from None
        answer = {"run_id": run.run_id, "ready": False, "processes": []}
    return {**answer, "alarms": _alarms_of(run), "run_folder": str(run.path)}


def _alarms_of(run: RunFolder) -> list[str]:
    try:
        found: list[str] = rpc.call(run.ric_socket, "status", 2.0)["alarms"]
    except rpc.RpcError:
        return ["the RIC does not answer; rules forward without it"]
    return found


def _print_status(found: dict[str, Any]) -> None:
    t_s = found.get("t_s")
    age = "coming up" if t_s is None else f"traffic for {t_s:.0f} s"
    print(
        f"run {found['run_id']}: {found.get('scenario', '?')}, policy {found.get('policy', '?')}, "
        f"seed {found.get('seed', '?')}, {found.get('datapath', '?')} datapath, {age}, "
        f"folder {found['run_folder']}"
    )
    terminal.print_table(("name", "pid", "alive", "restarts"), found["processes"])
    for alarm in found.get("alarms", []):
        print(f"alarm: {alarm}")
    for repair in found.get("repairs", [])[-5:]:
        print(f"{repair['event']}: {repair['detail']}")


def env() -> None:
    """Print shell settings for using ovs-ofctl and friends on the running testbed.

    \b
    Examples:
      eval "$(./testbed.sh env)"
      ovs-vsctl show; ovs-ofctl -O OpenFlow13 dump-flows core
      holon_ns ip link                 # in the namespace of the switches
      curl -s -H "Authorization: Bearer $HOLON_TOKEN" $HOLON_URL/api/v1/ues
    """
    run = running()
    port = northbound_port(run)
    exports = {
        "OVS_RUNDIR": str(run.ovs),
        "OVS_DBDIR": str(run.ovs),
        "HOLON_RUN": str(run.path),
        "HOLON_NAMESPACE": run.namespace,
        "HOLON_URL": f"http://127.0.0.1:{port}",
        "HOLON_TOKEN": run.token.read_text().strip(),
    }
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'holon_ns() {{ ip netns exec {run.namespace} "$@"; }}')
    print("# ovs-vsctl show; ovs-ofctl -O OpenFlow13 dump-flows BRIDGE; holon_ns COMMAND")


def down() -> None:
    """End the running testbed and remove exactly what it created.

    \b
    Example:
      ./testbed.sh down
    """
    from topologies import lifecycle

    require_root()
    run = current_run()
    if run is None:
        print("no testbed is up")
        return
    started_s = time.monotonic()
    with lifecycle.uninterrupted(), terminal.signs_of_life("taking the testbed down"):
        lifecycle.stop(run)
    print(f"run {run.run_id} is down after {time.monotonic() - started_s:.1f} s")


def clean() -> None:
    """Remove what every run left behind, also after `kill -9`; ends a running testbed too.

    \b
    Example:
      ./testbed.sh clean
    """
    from topologies import cleanup, lifecycle

    require_root()
    run = current_run()
    with lifecycle.uninterrupted(), terminal.signs_of_life("removing"):
        if run is not None:
            lifecycle.stop(run)
        removed = cleanup.clean_all()
    names = [*([run.run_id] if run else []), *(found.run_id for found in removed)]
    print(f"removed {', '.join(f'run {name}' for name in names)}" if names else "nothing to remove")
