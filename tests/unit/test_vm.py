"""The virtual machine's recipe and its images, without making one."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.waiting import wait_until
from topologies.errors import MachineError
from topologies.vm import images, machine, recipe
from topologies.vm.long_command import attempt
from topologies.vm.recipe import Recipe

pytestmark = pytest.mark.unit

RECIPE = Recipe("bookworm", ("deb http://deb.debian.org/debian bookworm main",), ("iproute2",))
TARGETS = [
    "Debian|http://deb.debian.org/debian/|bookworm|main",
    "Debian|http://deb.debian.org/debian/|bookworm|main",
    "Debian|http://deb.debian.org/debian-security/|bookworm-security|main",
    "Debian|http://deb.debian.org/debian/|trixie|main",
    "Somebody|https://example.org/|bookworm|main",
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = recipe.cache_folder()
    folder.mkdir(parents=True)
    return folder


def test_only_debian_s_own_sources_of_this_release() -> None:
    assert recipe.debian_sources(TARGETS, "bookworm") == (
        "deb http://deb.debian.org/debian/ bookworm main",
        "deb http://deb.debian.org/debian-security/ bookworm-security main",
    )


def test_another_recipe_is_another_image() -> None:
    assert RECIPE.digest == replace(RECIPE).digest
    assert RECIPE.digest != replace(RECIPE, packages=("iproute2", "tcpdump")).digest


def test_a_system_that_is_not_debian_is_told_so() -> None:
    with pytest.raises(MachineError, match="this is Ubuntu 24.04"):
        recipe._suite({"ID": "ubuntu", "PRETTY_NAME": "Ubuntu 24.04"})


def test_a_failed_build_leaves_nothing_and_says_why(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(text: str, command: list[str], log: Path, *_: object) -> None:
        raise MachineError("mirror unreachable")

    monkeypatch.setattr(images, "attempt", fails)
    (cache / "making-1").mkdir()  # what a killed build left
    with pytest.raises(MachineError, match="mirror unreachable"):
        images.ready(RECIPE, lambda text: None)
    assert [p.name for p in cache.iterdir() if p.name.startswith(("making", "system"))] == []


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = f"600.{os.getpid()}"
    line = f"sleep {mark} & echo started; wait"

    def is_sleeping() -> bool:
        commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
        return any(command == f"sleep\0{mark}\0".encode() for command in commands)

    with pytest.raises(MachineError, match="not done within 1 s"):
        attempt("waiting", ["sh", "-c", line], tmp_path / "log", lambda text: None, 1.0)
    assert "started" in (tmp_path / "log").read_text()
    wait_until(lambda: not is_sleeping(), 5.0)


def test_a_failing_command_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="making it: status 3: no space"):
        attempt("making it", ["sh", "-c", "echo no space; exit 3"], tmp_path / "log",
                lambda text: None, 10.0)  # fmt: skip


def test_a_record_of_a_machine_that_ended_is_nobody_s_machine(cache: Path) -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    record = {"pid": done.pid, "ticks": 1, "ssh_port": 1, "key": "k", "accelerator": "kvm"}
    (cache / "machine.json").write_bytes(orjson.dumps(record))
    assert machine.running() is None
    assert not (cache / "machine.json").exists()
