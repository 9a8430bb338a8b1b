"""Batch commands: run (up, measure, down) and demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.contracts import rpc_client as rpc
from controller.contracts.run_folder import RunFolder
from topologies.checkout import RESULTS
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.running import (
    ChosenPolicy,
    Overrides,
    Policy,
    ScenarioName,
    Seed,
    XappFolders,
    checked,
    require_root,
    start,
)
from topologies.cli.summary import print_summary, read_summary

if TYPE_CHECKING:  # what starting needs is not loaded for commands that only look
    from topologies.scenario.schema import Scenario

FINISH_TIMEOUT_S = 180.0
DEMO_SCENARIO = "crossroads"
DEMO_DURATION_S = 90.0

Duration = Annotated[
    float | None, typer.Option(metavar="S", min=1, help="Measured seconds, after the warm-up.")
]


def run(
    scenario: ScenarioName,
    duration: Duration = None,
    seed: Seed = None,
    policy: ChosenPolicy = Policy.XAPPS,
    xapp: XappFolders = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go (a folder in results/).")
    ] = None,
) -> None:
    """Bring a testbed up, measure it, write results, print the table, take it down.

    \b
    Examples:
      ./testbed.sh run minimal
      ./testbed.sh run crossroads --duration 60 --seed 3 --policy static --out results/static-3
      ./testbed.sh run crossroads --xapp my-xapp --set access_points.sbs1.down_mbps=15
    """
    wanted = checked(scenario, overrides, seed, duration)
    folder = run_batch(wanted, policy, xapp, out or default_folder(wanted, policy))
    print_summary(read_summary(folder))
    print(f"report: {terminal.shown(folder / 'report.html')}")
    print(f"tables and summary.json: {terminal.shown(folder)}")


def demo() -> None:
    """Everything a newcomer needs in one go: run crossroads, print the table, name the report.

    \b
    Example:
      ./testbed.sh demo
    """
    from topologies import doctor

    require_root()
    doctor.require()
    machine = doctor.examine().as_json()
    print(
        f"this machine: {machine['datapath']} datapath, delay by {machine['delay']}, "
        f"{machine['cores']} cores (more: ./testbed.sh doctor)",
        flush=True,
    )
    wanted = checked(DEMO_SCENARIO, None, None, DEMO_DURATION_S)
    folder = run_batch(wanted, Policy.XAPPS, None, RESULTS / "demo")
    print_summary(read_summary(folder))
    report = terminal.shown(folder / "report.html")
    print(f"report: {report} (open it in any browser; it needs no network)")
    print("next:")
    print(f"  ./testbed.sh run {DEMO_SCENARIO} --policy static   # compare: the best fixed split")
    print(f"  ./testbed.sh up {DEMO_SCENARIO}                    # stays up: then `ue list`, ...")
    print("  ./testbed.sh xapp new my-xapp                 # write and deploy your own xApp")


def default_folder(scenario: Scenario, policy: Policy) -> Path:
    """results/<scenario>-<policy>-s<seed>-<time> of this checkout."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return RESULTS / f"{scenario.name}-{policy.value}-s{scenario.seed}-{stamp}"


def run_batch(scenario: Scenario, policy: Policy, xapps: list[Path] | None, out: Path) -> Path:
    """Up, measured window, results, down: always down. Returns the folder of the results."""
    require_root()
    out = out.resolve()
    with _results_folder(out):
        testbed = start(scenario, policy, xapps)
        with _taken_down(testbed):
            _measure(testbed, scenario, out)
    return out


@contextmanager
def _results_folder(folder: Path) -> Iterator[None]:
    """Made before the run, so that a bad --out costs nothing; not left empty by a failure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandRefused(f"cannot write results to {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _taken_down(testbed: RunFolder) -> Iterator[None]:
    from topologies import lifecycle

    try:
        yield
    finally:
        terminal.step("taking the testbed down")
        with lifecycle.uninterrupted():
            lifecycle.stop(testbed)


def _measure(testbed: RunFolder, scenario: Scenario, out: Path) -> None:
    """Warm-up, then the scenario's duration, then the emulation writes the results."""
    from topologies import cleanup

    def broken() -> bool:
        return not cleanup.is_alive(testbed)

    def wait(text: str, seconds: float) -> None:
        terminal.wait_with_progress(text, seconds, broken)
        if broken():
            raise CommandRefused(f"the emulation process ended while {text}")

    status: dict[str, Any] = rpc.call(testbed.emulation_socket, "status")
    wait("warming up", max(0.0, scenario.warmup_s - status["t_s"]))
    begun: dict[str, Any] = rpc.call(testbed.emulation_socket, "begin")
    lead_s = max(0.0, (begun["start_ns"] - time.time_ns()) / 1e9)
    wait("measuring", lead_s + scenario.duration_s)
    terminal.step("writing results")
    rpc.call(testbed.emulation_socket, "finish", FINISH_TIMEOUT_S, out=str(out))
