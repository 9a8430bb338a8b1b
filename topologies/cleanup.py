"""Removes exactly what a run made, whatever state a crash left it in.

Reads the manifest, never guesses by command line or interface name.  Every step
finds out what is still there, so that removing twice, or after `kill -9` of the
removal itself, ends the same.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.contracts.run_folder import RUNS_ROOT, RunFolder
from topologies import namespaces
from topologies.errors import CleanupError, CommandError
from topologies.manifest import MAKING_PREFIX, RUN_ID_VARIABLE, Entry, Manifest
from topologies.processes import is_running, kill, parents_of, running_pids, start_ticks

EMULATION_PROCESS = "emulation"
"""Name under which the process that owns a run is in the manifest."""
REMOVING_PREFIX = ".holon-removing-"
_DEADLINE_S = 5.0
_POLL_S = 0.01


@dataclass
class Removed:
    """What a removal found and took away."""

    run_id: str
    processes: list[int] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        return bool(self.processes or self.namespaces or self.folders)


def remove(run: RunFolder) -> Removed:
    """Remove a run: processes, namespaces, sysctls put back, links, the folder last.

    Idempotent. The calling process and its ancestors are spared.
    Raises `CleanupError` when something survives 5 s, or, after all else is
    removed, when a sysctl cannot be put back.
    """
    removed = Removed(run.run_id)
    manifest = Manifest(run.manifest)
    entries = manifest.entries()
    spared = {os.getpid(), *parents_of(os.getpid())}
    _end_processes(run, manifest, spared, removed)
    for name in manifest.names("namespace"):
        if namespaces.exists(name):
            _delete_namespace(name)
            removed.namespaces.append(name)
    for name in manifest.names("interface"):
        _delete_interface(name)
    refused = [_put_back(entry) for entry in entries if entry.kind == "sysctl"]
    for name in manifest.names("link"):
        _unlink_if_ours(Path(name), run.path)
    _delete_folder(run, removed)
    for words in filter(None, refused):
        raise CleanupError(words)
    return removed


def clean_all(root: Path = RUNS_ROOT, only_stale: bool = False) -> list[Removed]:
    """Remove every run under `root`; with `only_stale`, those whose owner is dead.

    A folder without a manifest of its own is nobody's run and stays.
    """
    if not root.is_dir():
        return []
    removed = []
    for path in sorted(root.iterdir()):
        if path.is_symlink() or not path.is_dir():
            continue
        if path.name.startswith((MAKING_PREFIX, REMOVING_PREFIX)):
            shutil.rmtree(path)
            continue
        run = RunFolder(path)
        if _is_recorded_folder(run) and not (only_stale and is_alive(run)):
            removed.append(remove(run))
    link = root / "current"
    if link.is_symlink() and not link.exists():
        link.unlink()
    return removed


def is_alive(run: RunFolder) -> bool:
    """Does the process that owns this run still run?"""
    return any(
        entry.name == EMULATION_PROCESS and _is_recorded_one(entry)
        for entry in Manifest(run.manifest).entries()
        if entry.kind == "process"
    )


def remains(run: RunFolder) -> list[str]:
    """What is left of a run, in words; empty after a removal. Needs no manifest."""
    left = [f"process {pid}" for pid in _carrying(run.run_id)]
    if namespaces.exists(run.namespace):
        left.append(f"namespace {run.namespace}")
    if run.path.exists():
        left.append(f"folder {run.path}")
    return left


# -- processes ------------------------------------------------------------------


def _end_processes(run: RunFolder, manifest: Manifest, spared: set[int], removed: Removed) -> None:
    """Kill, look again, until none is left: a supervisor may start one in between."""
    deadline_s = time.monotonic() + _DEADLINE_S
    while True:
        found = [pid for pid in _ours(run, manifest) if pid not in spared]
        if not found:
            return
        if time.monotonic() > deadline_s:
            raise CleanupError(f"run {run.run_id}: processes {found} do not end")
        for pid in found:
            if kill(pid) and pid not in removed.processes:
                removed.processes.append(pid)
        while any(is_running(pid) for pid in found) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)


def _ours(run: RunFolder, manifest: Manifest) -> list[int]:
    """Recorded processes that are still the same, all that carry the run's id, and
    whatever somebody started in its namespace.

    The name alone is only trusted when this run got as far as owning a namespace:
    a run refused because its name was taken must not end the other one.
    """
    entries = manifest.entries()
    recorded = [e.pid for e in entries if e.pid is not None and _is_recorded_one(e)]
    owns_namespace = any(e.kind == "namespace" for e in entries)
    if not owns_namespace:
        return recorded
    return list(dict.fromkeys([*recorded, *_carrying(run.run_id), *_inside(run.namespace)]))


def _is_recorded_one(entry: Entry) -> bool:
    if entry.pid is None or entry.start_ticks is None or not is_running(entry.pid):
        return False
    return start_ticks(entry.pid) == entry.start_ticks


def _carrying(run_id: str) -> Iterator[int]:
    """Pids of running processes whose environment names this run."""
    wanted = f"{RUN_ID_VARIABLE}={run_id}".encode()
    for pid in running_pids():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables and is_running(pid):
            yield pid


def _inside(namespace: str) -> Iterator[int]:
    """Pids of running processes in that named namespace."""
    path = namespaces.named_path(namespace)
    for pid in running_pids() if path.exists() else []:
        try:
            is_inside = namespaces.same(f"/proc/{pid}/ns/net", path)
        except OSError:
            continue  # gone, or a kernel thread
        if is_inside and is_running(pid):
            yield pid


# -- things ---------------------------------------------------------------------


def _delete_namespace(name: str) -> None:
    try:
        namespaces.delete(name)
    except CommandError:
        # A file that `ip netns add` had made but not mounted yet when it was killed.
        namespaces.named_path(name).unlink(missing_ok=True)
    if namespaces.exists(name):
        raise CleanupError(f"network namespace {name} does not go away")


def _delete_interface(name: str) -> None:
    if Path(f"/sys/class/net/{name}").exists():
        namespaces.run(["ip", "link", "delete", name])


def _put_back(sysctl: Entry) -> str | None:
    """Written only where it differs: in a container it may be read-only. Words for a refusal."""
    path, previous = Path(sysctl.name), (sysctl.previous or "").strip()
    try:
        if path.read_text().strip() != previous:
            path.write_text(previous)
    except OSError as error:
        step = f"put it back where that is allowed: echo {previous} > {path}"
        return f"{path} cannot be set back to {previous} ({error.strerror}); {step}"
    return None


def _unlink_if_ours(link: Path, target: Path) -> None:
    if link.is_symlink() and os.readlink(link) in (str(target), target.name):
        link.unlink()


def _delete_folder(run: RunFolder, removed: Removed) -> None:
    """Renamed first, so that a folder under its own name always has its manifest."""
    doomed = run.path.with_name(f"{REMOVING_PREFIX}{run.run_id}")
    if doomed.exists():
        shutil.rmtree(doomed)
    if _is_recorded_folder(run):
        run.path.rename(doomed)
        shutil.rmtree(doomed)
        removed.folders.append(str(run.path))


def _is_recorded_folder(run: RunFolder) -> bool:
    recorded = Manifest(run.manifest).names("run_folder")
    return any(Path(name).resolve() == run.path.resolve() for name in recorded)
