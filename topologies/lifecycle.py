"""Start and stop of a run, from the command line's side.

`up` makes the run folder, starts the emulation process detached and follows
its progress; `down` asks it to end and removes what the run created.  What
happens in between is the emulation's work (`topologies/emulation.py`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from controller.contracts import rpc_client as rpc
from controller.contracts import run_folder
from controller.contracts.patience import stretched_s
from controller.contracts.run_folder import RunFolder, current_run
from topologies import cleanup
from topologies.checkout import RESULTS, environment_of_rooms
from topologies.errors import EmulationError, LifecycleError
from topologies.manifest import RUN_ID_VARIABLE, Manifest, create_run_folder

if TYPE_CHECKING:  # what `down` and `clean` do not wait for
    from topologies.datapath import Datapath
    from topologies.scenario.schema import Scenario

READY_TIMEOUT_S = stretched_s(60.0)
SHUTDOWN_TIMEOUT_S = 8.0
POLL_S = 0.05

Progress = Callable[[str], None]
"""Called with one line for each step that takes part of a start."""

STEPS = {
    "switch": "starting a private Open vSwitch",
    "network": "building the network",
    "controllers": "starting Ryu, the RIC and the local controllers",
    "slices": "installing slices",
    "xapps": "deploying xApps",
    "traffic": "starting traffic",
    "ready": "ready",
}


@dataclass(frozen=True)
class Start:
    """What to start: a checked scenario (its seed applied), a policy, extra xApp folders."""

    scenario: Scenario
    policy: str
    xapps: tuple[Path, ...] = ()


def up(start: Start, progress: Progress) -> RunFolder:
    """Start a testbed; returns when it is ready, and holds none of the caller's descriptors.

    Raises `LifecycleError` (after removing what was made) when a testbed is up
    already, the northbound port is taken, or bring-up fails or takes longer than
    60 s; `RequirementError` when the machine lacks something.  An interrupt
    removes what was made, too.
    """
    from topologies import doctor

    datapath = doctor.require(start.scenario.datapath)
    with _one_start_at_a_time():
        _refuse_second_testbed(progress)
        _refuse_taken_port(start.scenario.northbound_port)
        run = _make_run(start, datapath)
    try:
        process = _spawn_emulation(run)
        _follow(run, process, progress)
    except BaseException as error:
        with uninterrupted():
            failed = isinstance(error, EmulationError)
            logs = _keep_logs(run, start.scenario.name) if failed else None
            stop(run)
        if failed:
            raise LifecycleError(f"{error}; logs kept in {logs}") from error
        raise
    return run


def stop(run: RunFolder) -> None:
    """End a run, whatever state it is in, and remove everything that it created."""
    try:
        rpc.call(run.emulation_socket, "shutdown", SHUTDOWN_TIMEOUT_S)
        _wait_until_ended(run)
    except rpc.RpcError:
        pass  # dead or not listening yet: removal finds what is left
    cleanup.remove(run)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C, TERM and HUP wait: removal must not be cut short."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    """A lock on the folder of runs: two `up` at once cannot both see it empty."""
    run_folder.RUNS_ROOT.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_folder.RUNS_ROOT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_second_testbed(progress: Progress) -> None:
    run = current_run()
    if run is None:
        return
    if cleanup.is_alive(run) or _is_being_started(run):
        name = orjson.loads(run.scenario.read_bytes())["scenario"]["name"]
        raise LifecycleError(
            f"a testbed is up already: run {run.run_id} ({name}); end it with ./testbed.sh down"
        )
    progress(f"removing what run {run.run_id} left behind")
    cleanup.remove(run)


def _is_being_started(run: RunFolder) -> bool:
    """The moment between making the folder and recording the emulation's pid."""
    age_s = time.time() - run.path.stat().st_ctime
    return not Manifest(run.manifest).names("process") and age_s < 5.0


def _refuse_taken_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LifecycleError(
                f"port {port} of 127.0.0.1 is in use ({error.strerror}); free it (who has it: "
                f"ss -ltnp 'sport = :{port}') or choose another with --set northbound_port=N"
            ) from error


def _make_run(start: Start, datapath: Datapath) -> RunFolder:
    run = RunFolder(run_folder.RUNS_ROOT / secrets.token_hex(3))
    manifest = create_run_folder(run)
    run.results.mkdir()
    _write_secret(run.token, secrets.token_urlsafe(32))
    run.scenario.write_bytes(
        orjson.dumps(
            {
                "scenario": start.scenario.model_dump(mode="json"),
                "policy": start.policy,
                "datapath": datapath.value,
                "seed": start.scenario.seed,
                "xapps": [str(folder.resolve()) for folder in start.xapps],
            }
        )
    )
    link = run_folder.RUNS_ROOT / "current"
    manifest.record_link(link)
    link.unlink(missing_ok=True)
    link.symlink_to(run.path.name)
    return run


def _write_secret(path: Path, secret: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)


def _spawn_emulation(run: RunFolder) -> subprocess.Popen[bytes]:
    environment = {
        **environment_of_rooms(),
        RUN_ID_VARIABLE: run.run_id,
        "PYTHONUNBUFFERED": "1",
    }
    with (run.logs / "emulation.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "topologies.emulation", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    Manifest(run.manifest).record_process(process.pid, cleanup.EMULATION_PROCESS)
    return process


def _follow(run: RunFolder, process: subprocess.Popen[bytes], progress: Progress) -> None:
    """Pass on each step until the testbed is ready; raises `LifecycleError` when it fails."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    seen, last = 0, "starting"
    while True:
        ended = process.poll() is not None  # before reading, so that last lines are not missed
        for line in _progress_lines(run)[seen:]:
            seen += 1
            if line.get("error"):
                raise LifecycleError(str(line["error"]))
            last = STEPS.get(line["step"], line["step"])
            progress(last)
            if line["step"] == "ready":
                process.returncode = 0  # it lives on without us; nobody waits for it
                return
        if ended:
            raise LifecycleError(f"the emulation ended while {last}: {_last_log_line(run)}")
        if time.monotonic() > deadline_s:
            raise LifecycleError(f"not ready within {READY_TIMEOUT_S:.0f} s (while {last})")
        time.sleep(POLL_S)


def _progress_lines(run: RunFolder) -> list[dict[str, Any]]:
    path = run.path / "progress.jsonl"
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _last_log_line(run: RunFolder) -> str:
    lines = (run.logs / "emulation.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(it printed nothing)"


def _keep_logs(run: RunFolder, scenario_name: str) -> Path:
    kept = RESULTS / f"failed-{scenario_name}-{run.run_id}"
    kept.parent.mkdir(exist_ok=True)
    shutil.copytree(run.logs, kept)
    return kept


def _wait_until_ended(run: RunFolder) -> None:
    """Until the emulation has put its own things away; removal takes what is left."""
    deadline_s = time.monotonic() + SHUTDOWN_TIMEOUT_S
    while cleanup.is_alive(run) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
