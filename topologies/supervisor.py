"""Child processes of a run: started in a chosen namespace, watched, restarted, ended.

Every child carries HOLON_RUN_ID and is recorded in the manifest before its
first instruction matters, so that cleaning up finds it even after `kill -9`
of the supervisor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from topologies.errors import EmulationError

RESTART_WINDOW_S = 60.0
PROMPT_RESTARTS = 5
"""Within a window; after that one waits longer from restart to restart."""
LONGEST_PAUSE_S = 5.0


@dataclass
class Child:
    """One supervised process; `namespace_path` None means the supervisor's own."""

    name: str
    command: list[str]
    namespace_path: str | None
    restart: bool
    process: subprocess.Popen[bytes]
    restarts_at_s: list[float] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def not_before_s(self) -> float:
        """When it may start again: at once at first, a crash loop ever more slowly, never not
        at all: slices must not stay without their controller because it fell often."""
        if not self.restarts_at_s:
            return 0.0
        last_s = self.restarts_at_s[-1]
        recent = sum(1 for t in self.restarts_at_s if last_s - t < RESTART_WINDOW_S)
        pause_s = 0.5 * 2.0 ** (recent - PROMPT_RESTARTS) if recent >= PROMPT_RESTARTS else 0.0
        return last_s + min(pause_s, LONGEST_PAUSE_S)


class Supervisor:
    """Starts and watches the processes of one run."""

    def __init__(self, run_id: str, log_folder: Path, record: Callable[[int, str], None]) -> None:
        self._run_id = run_id
        self._logs = log_folder
        self._record = record
        self.children: dict[str, Child] = {}

    def start(
        self,
        name: str,
        module_arguments: list[str],
        namespace_path: str | None = None,
        restart: bool = False,
    ) -> Child:
        """Start `python -m <module_arguments>`, log to `<logs>/<name>.log`."""
        command = [sys.executable, "-m", *module_arguments]
        process = self._spawn(name, command, namespace_path)
        child = Child(name, command, namespace_path, restart, process)
        self.children[name] = child
        return child

    def _spawn(
        self, name: str, command: list[str], namespace_path: str | None
    ) -> subprocess.Popen[bytes]:
        if namespace_path is not None:
            command = ["nsenter", f"--net={namespace_path}", "--", *command]
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOLON_RUN_ID": self._run_id, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self._record(process.pid, name)
        return process

    def require_alive(self, name: str) -> None:
        """Raise `EmulationError` with the end of its log when the child is dead."""
        child = self.children[name]
        if not child.alive:
            raise EmulationError(
                f"{name} ended with status {child.process.returncode}: {self.last_line(name)}"
            )

    def last_line(self, name: str) -> str:
        path = self._logs / f"{name}.log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1] if lines else "(no output)"

    def restart_dead(self, now_s: float) -> list[str]:
        """Restart dead children that ask for it; returns their names."""
        restarted = []
        for child in self.children.values():
            if child.alive or not child.restart:
                continue
            if now_s < child.not_before_s():
                continue
            child.restarts_at_s.append(now_s)
            child.process = self._spawn(child.name, child.command, child.namespace_path)
            restarted.append(child.name)
        return restarted

    def end_hung(self, name: str) -> None:
        """Kill a child that lives without answering; `restart_dead` then starts it again."""
        child = self.children.get(name)
        if child is not None and child.alive:
            child.process.kill()
            child.process.wait()

    def stop(self, names: list[str], grace_s: float = 1.0) -> None:
        """End these children: TERM, then KILL after the grace."""
        children = [self.children.pop(n) for n in names if n in self.children]
        for child in children:
            if child.alive:
                child.process.send_signal(signal.SIGTERM)
                child.process.send_signal(signal.SIGCONT)  # or a stopped one never hears
        deadline_s = time.monotonic() + grace_s
        for child in children:
            try:
                child.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def status(self) -> list[dict[str, object]]:
        return [
            {
                "name": c.name,
                "pid": c.process.pid,
                "alive": c.alive,
                "restarts": len(c.restarts_at_s),
            }
            for c in self.children.values()
        ]
