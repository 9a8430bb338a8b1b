"""What all tests share: kinds by folder, what a kind needs, and a running testbed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = Path(__file__).resolve().parent
KINDS = ("unit", "contract", "pipeline", "emulated", "faults", "browser")
NEED_ROOT = ("emulated", "faults")
UP_TIMEOUT_S = 120.0


def kind_of(path: Path) -> str | None:
    """The folder below tests/ that a test file lies in."""
    parts = path.relative_to(TESTS).parts
    return parts[0] if parts[0] in KINDS else None


def missing_for(kind: str | None) -> str | None:
    if kind in NEED_ROOT and os.geteuid() != 0:
        return "root"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = kind_of(item.path)
        if kind is not None:
            item.add_marker(getattr(pytest.mark, kind))
        missing = missing_for(kind)
        if missing is not None:
            item.add_marker(pytest.mark.skip(reason=f"{kind} tests need {missing}"))


@dataclass(frozen=True)
class CommandLine:
    """./testbed.sh with a folder of runs of its own, so that a user's testbed is left alone."""

    runs_root: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOLON_RUNS_ROOT": str(self.runs_root)}

    def run(
        self, *arguments: str, timeout_s: float = 60.0, cwd: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(REPOSITORY / "testbed.sh"), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
        )

    def output(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """stdout of a command that has to succeed."""
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str, timeout_s: float = 60.0) -> Any:
        return json.loads(self.output(*arguments, "--json", timeout_s=timeout_s))

    def refusal(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """The one line on stderr of a command that has to be refused; signs of life apart."""
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.returncode != 0, f"{arguments} was not refused: {done.stdout}"
        lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
        assert len(lines) == 1, f"not one line: {done.stderr}"
        return lines[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """./testbed.sh beside whatever else runs on this machine; cleaned up afterwards."""
    root = tmp_path_factory.mktemp("runs")
    line = CommandLine(root)
    yield line
    if os.geteuid() == 0 and any(root.iterdir()):
        line.output("clean")
    shutil.rmtree(root)


@dataclass(frozen=True)
class RunningTestbed:
    """`minimal`, up and ready."""

    commands: CommandLine
    northbound_port: int
    run_folder: Path

    @property
    def namespace(self) -> str:
        return f"holon-{self.run_folder.name}"


@pytest.fixture(scope="module")
def testbed(command_line: CommandLine) -> Iterator[RunningTestbed]:
    """A testbed brought up by ./testbed.sh up, and taken down by ./testbed.sh down."""
    port = free_port()
    command_line.output("up", "minimal", "--set", f"northbound_port={port}", timeout_s=UP_TIMEOUT_S)
    run_folder = (command_line.runs_root / "current").resolve()
    try:
        yield RunningTestbed(command_line, port, run_folder)
    finally:
        command_line.output("down")
