"""What is done inside the machine: the checkout brought in, commands run, results fetched."""

from __future__ import annotations

import compileall
import subprocess
import tempfile
from pathlib import Path

from controller.contracts import patience
from topologies.checkout import REPOSITORY
from topologies.errors import MachineError
from topologies.vm.machine import Machine

FOLDER = "/root/holon"
RESULTS = "/root/results"
PATIENCE = 10
"""By how much starting may take longer there."""
ENVIRONMENT = f"export {patience.VARIABLE}={PATIENCE} PYTHONUNBUFFERED=1"
_LEFT_OUT = ("./.git", "./.venv", "./results", "__pycache__", ".mypy_cache", ".ruff_cache",
             ".pytest_cache", ".hypothesis")  # fmt: skip
_COPY_TIMEOUT_S = 120.0


def bring_in_checkout(machine: Machine) -> None:
    """Copy the checkout as it is now, and mount its Python packages. Raises `MachineError`.

    Compiled here, because compiling takes the emulated processor long.
    """
    with tempfile.TemporaryDirectory(prefix="holon-vm-") as folder:
        excluded = [f"--exclude={name}" for name in _LEFT_OUT]
        _pipe(
            ["tar", "-C", str(REPOSITORY), *excluded, "-cf", "-", "."],
            ["tar", "-C", folder, "-xf", "-"],
        )
        for room in ("controller", "topologies", "models", "xapps", "tests"):
            compileall.compile_dir(Path(folder) / room, quiet=2, stripdir=folder, prependdir=FOLDER)
        _pipe(
            ["tar", "-C", folder, "-cf", "-", "."],
            machine.ssh(f"mkdir -p {FOLDER}/.venv {RESULTS} && tar -C {FOLDER} -xf -"),
        )
    mount = f"mountpoint -q {FOLDER}/.venv || mount -o ro /dev/vdb {FOLDER}/.venv"
    if execute(machine, mount, 30.0) != 0:
        raise MachineError("the Python packages cannot be mounted in the virtual machine")


def execute(machine: Machine, line: str, timeout_s: float) -> int:
    """Run a shell line there, its output to ours as it comes; its exit status.

    Raises `MachineError` after `timeout_s`.
    """
    try:
        return subprocess.run(
            machine.ssh(f"cd {FOLDER} 2>/dev/null; {ENVIRONMENT}; {line}"),
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"in the virtual machine: {line}: over {timeout_s:.0f} s") from error


def fetch_results(machine: Machine, out: Path) -> None:
    """Copy what lies in its results folder. Raises `MachineError`."""
    out.mkdir(parents=True, exist_ok=True)
    _pipe(machine.ssh(f"tar -C {RESULTS} -cf - ."), ["tar", "-C", str(out), "-xf", "-"])


def _pipe(source: list[str], sink: list[str]) -> None:
    reading = subprocess.Popen(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        done = subprocess.run(sink, stdin=reading.stdout, timeout=_COPY_TIMEOUT_S)
        status = reading.wait(timeout=_COPY_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"copying took over {_COPY_TIMEOUT_S:.0f} s") from error
    finally:
        if reading.poll() is None:
            reading.kill()
            reading.wait()
        if reading.stdout is not None:
            reading.stdout.close()
    if status != 0 or done.returncode != 0:
        raise MachineError(f"copying failed: {source[0]} | {sink[0]} ({status}, {done.returncode})")
