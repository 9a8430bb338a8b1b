"""One xApp's process: started confined in a host's namespace, watched, ended.

The chain of small programs before the interpreter each exec the next, so the pid
that is started is the xApp's own: `setpriv` ties its life to the RIC's, `prlimit`
bounds it, `nsenter` puts it where it is placed, `xapp_confinement` takes root away.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from controller.ric import xapp_confinement

ADDRESS_SPACE_BYTES = 2 * 1024**3
OPEN_FILES = 1024
PROCESSES = 512
NICENESS_ABOVE_RIC = 5
"""A runaway xApp must not take the processor from control and measurement."""
LOG_TAIL_BYTES = 64 * 1024
XAPP_URL = "http://127.0.0.1:8080"
"""The northbound API as every placement sees it."""


@dataclass(frozen=True)
class Launch:
    """All that one process needs; `arguments` go to the Python interpreter."""

    name: str
    arguments: Sequence[str]
    folder: Path
    netns_path: str | None
    """None: where the RIC itself is."""
    log_path: Path
    python_path: Sequence[Path]
    token: str
    run_id: str
    config: Mapping[str, object]
    url: str = XAPP_URL
    uid: int | None = None
    """The user and group that it runs as; None: as the RIC, which is not root."""
    reads: Sequence[Path] = ()
    """Folders besides its own."""


def command_of(launch: Launch) -> list[str]:
    """Raises `Unreadable` when it could not read what it needs."""
    confined: list[str] = []
    if launch.uid is not None:
        folders = (*launch.reads, *launch.python_path, *xapp_confinement.interpreter_folders())
        confined = [
            *xapp_confinement.sight(launch.folder, folders),
            *xapp_confinement.as_nobody(launch.uid),
        ]
    return [
        "setpriv",
        "--pdeathsig=KILL",
        "prlimit",
        f"--as={ADDRESS_SPACE_BYTES}",
        f"--nofile={OPEN_FILES}",
        f"--nproc={PROCESSES}",
        "nice",
        f"--adjustment={NICENESS_ABOVE_RIC}",
        *(() if launch.netns_path is None else ("nsenter", f"--net={launch.netns_path}")),
        *confined,
        str(Path(sys.executable).parent.resolve() / Path(sys.executable).name),
        *launch.arguments,
    ]


def environment_of(launch: Launch) -> dict[str, str]:
    """Nothing of the RIC's own environment but where programs are and the locale."""
    inherited = {k: os.environ[k] for k in ("PATH", "LANG") if k in os.environ}
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(str(path) for path in launch.python_path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # One thread each: idle pools would spin on the emulation's processors.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "HOLON_URL": launch.url,
        "HOLON_TOKEN": launch.token,
        "HOLON_XAPP_NAME": launch.name,
        "HOLON_XAPP_CONFIG": orjson.dumps(dict(launch.config)).decode(),
        "HOLON_RUN_ID": launch.run_id,
    }


async def start(launch: Launch) -> asyncio.subprocess.Process:
    """OSError or `Unreadable` when it cannot even be started."""
    launch.log_path.parent.mkdir(parents=True, exist_ok=True)
    with launch.log_path.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command_of(launch),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=launch.folder,
            env=environment_of(launch),
            start_new_session=True,
        )


async def end(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """TERM to its whole session, KILL after the grace."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), grace_s)
        except TimeoutError:
            continue


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, at most `LOG_TAIL_BYTES` of it; empty without a log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def exit_reason(returncode: int, path: Path) -> str:
    """'exited with status 1: ModuleNotFoundError: ...', from its last log line."""
    if returncode < 0:
        try:
            how = f"was ended by {signal.Signals(-returncode).name}"
        except ValueError:
            how = f"was ended by signal {-returncode}"
    else:
        how = f"exited with status {returncode}"
    spoken = [line for line in log_tail(path, 50) if line.strip()]
    return f"{how}: {spoken[-1].strip()}" if spoken else f"{how} without a word"
