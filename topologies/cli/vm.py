"""Commands of the virtual machine in which kernel mode runs where this kernel lacks it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topologies.checkout import RESULTS
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.running import require_root

if TYPE_CHECKING:
    from topologies.vm.machine import Machine

commands = typer.Typer(
    help="A virtual machine with Debian's kernel: kernel mode where this kernel lacks it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
PASS_THROUGH = {"allow_interspersed_args": False, "ignore_unknown_options": True}
_CONTRACT = "tests/emulated/test_datapath.py"
_DOCTOR_TIMEOUT_S, _CONTRACT_TIMEOUT_S, _RUN_TIMEOUT_S = 120.0, 600.0, 600.0
_RUN_S = 10
_SLOW = {  # `minimal` at about a fifth of its rates: an emulated processor forwards so much
    "access_points.ap1.down_mbps": 4, "access_points.ap1.up_mbps": 4,
    "traffic.stream.demand.low_mbps": 0.6, "traffic.stream.demand.high_mbps": 2.2,
    "traffic.commands.demand.low_mbps": 0.1, "traffic.commands.demand.high_mbps": 0.6,
    "slices.video.sla.guaranteed_mbps": 2.4, "slices.control.sla.guaranteed_mbps": 0.8,
    "initial_reservations.0.min_mbps": 1.6, "initial_reservations.1.min_mbps": 0.4,
    "static_reservations.0.min_mbps": 2, "static_reservations.1.min_mbps": 0.6,
    "probes.probe-video.rate_pps": 20, "probes.probe-control.rate_pps": 20,
}  # fmt: skip


@commands.command("run")
def run() -> None:
    """Boot the machine (built first, once: about a minute) with this checkout in it.

    It stays up until `vm down`.

    \b
    Examples:
      ./testbed.sh vm run
      ./testbed.sh vm ssh ./testbed.sh run minimal --duration 10
    """
    from topologies.vm import machine

    require_root()
    if machine.running() is not None:
        raise CommandRefused("the virtual machine is up already; ./testbed.sh vm ssh, or vm down")
    _booted(ends_with_us=False)
    print("the virtual machine is up, this checkout is in /root/holon: ./testbed.sh vm ssh")


@commands.command("ssh", context_settings=PASS_THROUGH)
def ssh(
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND")] = None,
) -> None:
    """A shell in the machine, or one command in its copy of the checkout.

    \b
    Examples:
      ./testbed.sh vm ssh
      ./testbed.sh vm ssh ./testbed.sh doctor
    """
    from topologies.vm import guest, machine

    require_root()
    found = machine.running()
    if found is None:
        raise CommandRefused("no virtual machine is up; start it with ./testbed.sh vm run")
    line = " ".join(command) if command else "exec bash -l"
    program = found.ssh(f"cd {guest.FOLDER}; {guest.ENVIRONMENT}; {line}", terminal=not command)
    os.execvp(program[0], program)


@commands.command("test")
def test(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go (a folder in results/).")
    ] = None,
) -> None:
    """Kernel mode proven: the datapath's contract test and a short run, in the machine.

    Boots it unless it is up, and ends it again if so.  Figures of time are those of an
    emulated processor: the run's verdict may well be "invalid".

    \b
    Example:
      ./testbed.sh vm test
    """
    from topologies.vm import guest, machine

    require_root()
    folder = (out or RESULTS / f"vm-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    here = machine.running()
    found = here or _booted(ends_with_us=True)
    try:
        if here is not None:
            guest.bring_in_checkout(found)
        failed = _prove(found)
        guest.fetch_results(found, folder)
    finally:
        if here is None:
            machine.stop(found)
    print(f"results: {terminal.shown(folder)}")
    if failed:
        raise CommandRefused(f"in the virtual machine failed: {', '.join(failed)}{_busy_note()}")
    print("kernel mode: contract test passed, minimal ran")


def _busy_note() -> str:
    """Rates and delays of an emulated processor need a quiet machine around it."""
    from topologies.vm.machine import PROCESSORS

    load, cores = os.getloadavg()[1], len(os.sched_getaffinity(0))
    if load <= max(cores, PROCESSORS) + 1:
        return ""
    return f" (the load here was {load:.1f} on {cores} processors: repeat it on a quiet machine)"


def _prove(found: Machine) -> list[str]:
    """Names of what failed."""
    from topologies.vm import guest

    slow = " ".join(f"--set {key}={value}" for key, value in _SLOW.items())
    steps = {
        "doctor": (
            "./testbed.sh doctor --json > {out}/doctor.json; status=$?; uname -sr; "
            "grep -E '\"(datapath|delay|kernel_mode)\"' {out}/doctor.json; exit $status",
            _DOCTOR_TIMEOUT_S,
        ),
        "contract test": (
            "HOLON_RUNS_ROOT=/tmp/holon-runs .venv/bin/python -m pytest -v -s -k kernel "
            "-p no:cacheprovider --junit-xml={out}/contract.xml " + _CONTRACT,
            _CONTRACT_TIMEOUT_S,
        ),
        "run minimal": (
            f"./testbed.sh run minimal --set datapath=kernel --duration {_RUN_S} {slow} "
            "--out {out}/minimal",
            _RUN_TIMEOUT_S,
        ),
    }
    failed = []
    for name, (line, timeout_s) in steps.items():
        terminal.step(f"in the virtual machine: {name}")
        started_s = time.monotonic()
        if guest.execute(found, line.format(out=guest.RESULTS), timeout_s) != 0:
            failed.append(name)
        terminal.step(f"{name}: {time.monotonic() - started_s:.0f} s")
    return failed


def _booted(ends_with_us: bool) -> Machine:
    from topologies.vm import guest, images, machine
    from topologies.vm.recipe import recipe

    started_s = time.monotonic()
    found = machine.start(images.ready(recipe(), terminal.step), terminal.step, ends_with_us)
    try:
        terminal.step("copying this checkout into it")
        guest.bring_in_checkout(found)
    except BaseException:
        machine.stop(found)
        raise
    terminal.step(f"up after {time.monotonic() - started_s:.0f} s")
    return found


@commands.command("down")
def down(
    with_images: Annotated[
        bool, typer.Option("--images", help="Also remove the images it boots from.")
    ] = False,
) -> None:
    """End the machine; nothing of what was changed in it stays.

    \b
    Examples:
      ./testbed.sh vm down
      ./testbed.sh vm down --images      # the next start builds anew
    """
    from topologies.vm import images, machine

    require_root()
    found = machine.running()
    if found is not None:
        machine.stop(found)
    print("the virtual machine is down" if found else "no virtual machine is up")
    if with_images:
        print("images removed" if images.remove_all() else "there were no images")
