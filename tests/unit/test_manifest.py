"""The manifest: what is written comes back, also after a crash in the middle of a line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from controller.contracts.run_folder import RunFolder
from topologies import cleanup
from topologies.errors import CleanupError
from topologies.manifest import Manifest, create_run_folder
from topologies.processes import is_running, parents_of, start_ticks

pytestmark = pytest.mark.unit


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    manifest.record_namespace("holon-x")
    manifest.record_process(os.getpid(), "emulation")
    manifest.record_sysctl(Path("/proc/sys/net/core/wmem_default"), "212992")
    namespace, process, sysctl = manifest.entries()
    assert (namespace.kind, namespace.name) == ("namespace", "holon-x")
    assert (process.pid, process.start_ticks) == (os.getpid(), start_ticks(os.getpid()))
    assert sysctl.previous == "212992"
    assert namespace.at_ns <= process.at_ns <= sysctl.at_ns


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    manifest.record_namespace("holon-x")
    with manifest.path.open("a") as file:
        file.write('{"kind": "proc')
    assert [e.name for e in manifest.entries()] == ["holon-x"]


def test_no_manifest_has_no_entries(tmp_path: Path) -> None:
    assert Manifest(tmp_path / "manifest.jsonl").entries() == []


def test_names_are_listed_once(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    for name in ("a", "b", "a"):
        manifest.record_namespace(name)
    assert manifest.names("namespace") == ["a", "b"]


def test_a_new_run_folder_has_its_manifest_from_the_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r1")
    manifest = create_run_folder(run)
    assert manifest.names("run_folder") == [str(run.path)]
    assert run.logs.is_dir() and run.ovs.is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["r1"]


def test_a_taken_run_folder_is_refused_and_nothing_left(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r1")
    create_run_folder(run)
    with pytest.raises(FileExistsError, match="r1"):
        create_run_folder(run)
    assert [p.name for p in tmp_path.iterdir()] == ["r1"]


def test_start_ticks_tell_two_lives_of_a_pid_apart() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert is_running(process.pid)
        mine, its = start_ticks(os.getpid()), start_ticks(process.pid)
        assert mine is not None and its is not None and its > mine
        assert next(iter(parents_of(process.pid))) == os.getpid()
        process.kill()
        process.wait()
    assert start_ticks(process.pid) is None
    assert not is_running(process.pid)


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(process.pid)
    process.wait()


READ_ONLY_SYSCTL = Path("/proc/sys/kernel/ostype")


def test_a_read_only_sysctl_that_is_as_before_is_nothing_to_put_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r1")
    create_run_folder(run).record_sysctl(READ_ONLY_SYSCTL, READ_ONLY_SYSCTL.read_text())
    cleanup.remove(run)
    assert not run.path.exists()


def test_a_sysctl_that_cannot_be_put_back_is_one_line_and_the_rest_goes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r1")
    create_run_folder(run).record_sysctl(READ_ONLY_SYSCTL, "Plan 9")
    with pytest.raises(CleanupError, match=f"echo Plan 9 > {READ_ONLY_SYSCTL}") as caught:
        cleanup.remove(run)
    assert "\n" not in str(caught.value)
    assert not run.path.exists()
