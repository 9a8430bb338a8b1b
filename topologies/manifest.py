"""The manifest: what a run makes, one JSON line each, written before it is made.

Cleaning up reads nothing else.  A process has no pid before it exists, so it is
recorded right after its start; until then the run's id in its environment
(`HOLON_RUN_ID`) finds it, which is why every process of a run carries it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from controller.contracts.run_folder import RunFolder
from topologies.processes import start_ticks

RUN_ID_VARIABLE = "HOLON_RUN_ID"
MAKING_PREFIX = ".holon-making-"
"""Of the folder of a run that has no name of its own yet."""

Kind = Literal["run_folder", "namespace", "process", "interface", "link", "sysctl"]


@dataclass(frozen=True)
class Entry:
    """One thing a run made or is about to make.

    `name` by kind: folder path; namespace; what the process is; interface in the
    machine's own namespace; path of a symbolic link; path under /proc/sys.
    `start_ticks` is field 22 of /proc/<pid>/stat: pid and start together never recur.
    """

    kind: Kind
    name: str
    pid: int | None = None
    start_ticks: int | None = None
    previous: str | None = None
    """The value a changed sysctl had before."""
    at_ns: int = 0


class Manifest:
    """Appends to and reads one run's manifest; several processes may append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record_run_folder(self, path: Path) -> None:
        self._append(Entry("run_folder", str(path)))

    def record_namespace(self, name: str) -> None:
        self._append(Entry("namespace", name))

    def record_process(self, pid: int, name: str) -> None:
        self._append(Entry("process", name, pid=pid, start_ticks=start_ticks(pid)))

    def record_interface(self, name: str) -> None:
        self._append(Entry("interface", name))

    def record_link(self, path: Path) -> None:
        self._append(Entry("link", str(path)))

    def record_sysctl(self, path: Path, previous: str) -> None:
        self._append(Entry("sysctl", str(path), previous=previous))

    def _append(self, entry: Entry) -> None:
        values = {**asdict(entry), "at_ns": time.time_ns()}
        line = json.dumps({k: v for k, v in values.items() if v is not None}) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.write(descriptor, line.encode())  # one write: lines of two processes never mix
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """All entries in order; a last line torn by `kill -9` is left out."""
        if not self.path.exists():
            return []
        whole_lines = self.path.read_text().split("\n")[:-1]
        return [Entry(**json.loads(line)) for line in whole_lines]

    def names(self, kind: Kind) -> list[str]:
        """Names of one kind, each once, in order."""
        return list(dict.fromkeys(e.name for e in self.entries() if e.kind == kind))


def create_run_folder(run: RunFolder) -> Manifest:
    """Make a run's folder with its manifest already inside; returns the manifest.

    The folder appears under its name in one step, so no moment of a crash leaves
    a run folder that no manifest explains.  Raises FileExistsError.
    """
    making = run.path.with_name(f"{MAKING_PREFIX}{run.run_id}-{os.getpid()}")
    making.parent.mkdir(parents=True, exist_ok=True)
    making.mkdir(mode=0o700)  # tokens, sockets, the emulation's own truth: not for xApps
    Manifest(making / run.manifest.name).record_run_folder(run.path)
    for folder in (run.logs, run.ovs):
        (making / folder.name).mkdir()
    if run.path.exists():
        (making / run.manifest.name).unlink()
        for folder in (run.logs, run.ovs):
            (making / folder.name).rmdir()
        making.rmdir()
        raise FileExistsError(f"run folder {run.path} exists already")
    making.rename(run.path)
    return Manifest(run.manifest)
