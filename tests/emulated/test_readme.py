"""What README.md tells a newcomer to type, typed: on the scenario it is told for, word by word.

Only times are made shorter.  Left out, because other tests run them: whole runs and their
comparison, and the migration of a service, which is of another scenario.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, UP_TIMEOUT_S, CommandLine, free_port
from tests.documented import PROGRAM, README, blocks, commands
from tests.waiting import wait_until

ELSEWHERE = re.compile(rf"{re.escape(PROGRAM)} (up|down|run|compare|service migrate)\b")
SHORTER = {"--duration 10": "--duration 1", ".pcapng": ".pcapng --duration 1", "-c 3": "-c 1"}


@dataclass(frozen=True)
class Newcomer:
    """Sits in a folder of its own, with a link to testbed.sh."""

    commands: CommandLine
    folder: Path

    def types(self, line: str) -> str:
        """What a command that has to succeed prints."""
        for long, short in SHORTER.items():
            line = line.replace(long, short)
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=self.folder,
            env=self.commands.environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def follows(self, section: str) -> dict[str, str]:
        """Every line of a section; what each printed."""
        return {line: self.types(line) for line in told(section)}


def told(section: str) -> list[str]:
    return [line for line in commands(README, section) if not ELSEWHERE.match(line)]


@pytest.fixture(scope="module")
def newcomer(
    command_line: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Newcomer]:
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "testbed.sh").symlink_to(REPOSITORY / "testbed.sh")
    port = f"northbound_port={free_port()}"
    command_line.output("up", "crossroads", "--set", port, timeout_s=UP_TIMEOUT_S)
    yield Newcomer(command_line, folder)
    command_line.output("down")


def test_using_it(newcomer: Newcomer) -> None:
    printed = newcomer.follows("Using it")
    assert len(printed) >= 9
    assert all(printed.values()), printed
    assert "car1" in printed["./testbed.sh ue list"]
    assert (newcomer.folder / "urllc.pcapng").stat().st_size > 1000


def test_trying_it_before_doing_it(newcomer: Newcomer) -> None:
    lines = commands(README, "Try it before you do it")
    assert [line.split()[2] for line in lines] == ["fork", "compare", "apply", "show"]
    newcomer.types(lines[0])
    best = newcomer.types(lines[1]).splitlines()[1].split()[0]
    assert best in newcomer.types(lines[3].replace("FORK", best))
    newcomer.types(lines[2].replace("FORK", best))


def test_an_xapp_in_ten_minutes(newcomer: Newcomer) -> None:
    """The page's program instead of the template's, beside no other xApp."""
    (program,) = blocks(README, "Write an xApp in ten minutes", "python")
    newcomer.commands.output("xapp", "undeploy", "slice-planner")
    made, *others = told("Write an xApp in ten minutes")
    newcomer.types(made)
    (newcomer.folder / "my-xapp" / "xapp.py").write_text(program)
    printed = {line: newcomer.types(line) for line in others}
    assert "is running" in printed["./testbed.sh xapp deploy my-xapp"]

    def applied() -> list[dict[str, Any]]:
        decisions = json.loads(newcomer.types("./testbed.sh decision list --json"))
        return [d for d in decisions if d["xapp"] == "my-xapp" and d["verdict"] == "applied"]

    wait_until(applied, 20.0)
    assert "applied" in newcomer.types("./testbed.sh xapp logs my-xapp")
