"""Bringing a testbed up and down, the ways in which it can go wrong, and what is left: nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.contracts.run_folder import RunFolder
from tests.conftest import REPOSITORY, CommandLine, free_port
from tests.waiting import wait_until
from topologies import cleanup
from topologies.datapath import missing_for_kernel_mode

SUMMARY_KEYS = {
    "scenario", "seed", "policy", "duration_s", "versions", "datapath", "delay", "validity",
    "slices", "loop_latency_ms", "decisions", "handovers", "migrations", "twins",
}  # fmt: skip
SEND_BUFFER = Path("/proc/sys/net/core/wmem_default")


@pytest.fixture
def commands(command_line: CommandLine) -> Iterator[CommandLine]:
    """Every test starts and ends without a testbed."""
    yield command_line
    left = list(command_line.runs_root.iterdir())
    if left:
        command_line.output("clean")
    assert left == []


def up(commands: CommandLine, *arguments: str) -> RunFolder:
    port = f"northbound_port={free_port()}"
    commands.output("up", "minimal", "--set", port, *arguments, timeout_s=120)
    return RunFolder((commands.runs_root / "current").resolve())


def emulation_pid(run: RunFolder) -> int:
    listed = subprocess.run(
        ["pgrep", "-f", f"topologies.emulation {run.path}$"], capture_output=True, text=True
    ).stdout.split()
    assert len(listed) == 1
    return int(listed[0])


def test_up_holds_nothing_and_down_leaves_nothing(commands: CommandLine) -> None:
    """None of the caller's descriptors is held; what runs in a host ends with the testbed."""
    buffer_bytes = SEND_BUFFER.read_text()
    reader, writer = os.pipe()
    try:
        subprocess.run(
            [REPOSITORY / "testbed.sh", "up", "minimal", "--set", f"northbound_port={free_port()}"],
            check=True, capture_output=True, env=commands.environment(), pass_fds=(writer,),
            timeout=120,
        )  # fmt: skip
        os.close(writer)
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b"", "somebody still holds the other end"
    finally:
        os.close(reader)
    run = RunFolder((commands.runs_root / "current").resolve())
    assert cleanup.remains(run)
    sleeping = subprocess.Popen(
        [REPOSITORY / "testbed.sh", "exec", "ue1", "--", "sleep", "1000"],
        env=commands.environment(),
    )
    wait_until(lambda: b"sleep" in Path(f"/proc/{sleeping.pid}/cmdline").read_bytes(), 20.0)
    commands.output("down")
    assert sleeping.wait(timeout=10) != 0
    assert cleanup.remains(run) == []
    assert list(commands.runs_root.iterdir()) == []
    assert SEND_BUFFER.read_text() == buffer_bytes
    assert "no testbed is up" in commands.output("down")
    assert "nothing to remove" in commands.output("clean")


def test_killed_emulation_is_removed_by_up_down_and_clean(commands: CommandLine) -> None:
    killed = kill_emulation(up(commands), commands)
    again = up(commands)
    assert again.run_id != killed.run_id
    assert cleanup.remains(killed) == []
    kill_emulation(again, commands)
    commands.output("down")
    assert cleanup.remains(again) == []
    last = kill_emulation(up(commands), commands)
    commands.output("clean")
    assert cleanup.remains(last) == []


def kill_emulation(run: RunFolder, commands: CommandLine) -> RunFolder:
    os.kill(emulation_pid(run), signal.SIGKILL)
    wait_until(lambda: not cleanup.is_alive(run), 5.0)
    assert "./testbed.sh clean" in commands.refusal("status")
    return run


def test_interrupted_up_leaves_nothing(commands: CommandLine) -> None:
    """By TERM; INT is tried with `run` below. One handler has both (topologies/cli/app.py)."""
    starting = subprocess.Popen(
        [REPOSITORY / "testbed.sh", "up", "minimal", "--set", f"northbound_port={free_port()}"],
        env=commands.environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    current = commands.runs_root / "current"
    wait_until(lambda: (current / "inventory.json").exists() or starting.poll() is not None, 60.0)
    assert starting.poll() is None, starting.communicate()[1]
    run = RunFolder(current.resolve())
    starting.send_signal(signal.SIGTERM)
    _, errors = starting.communicate(timeout=30)
    assert starting.returncode == 130
    assert errors.strip().splitlines()[-1] == "testbed.sh: interrupted"
    assert cleanup.remains(run) == []


def test_interrupted_run_leaves_nothing(commands: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(
        [REPOSITORY / "testbed.sh", "run", "minimal", "--out", out,
         "--set", f"northbound_port={free_port()}"],
        env=commands.environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    socket_path = commands.runs_root / "current" / "emulation.sock"
    wait_until(lambda: socket_path.exists() or running.poll() is not None, 60.0)
    assert running.poll() is None, running.communicate()[1]
    run = RunFolder((commands.runs_root / "current").resolve())
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert cleanup.remains(run) == []
    assert not out.exists()


def test_port_in_use_is_refused_before_anything_is_made(commands: CommandLine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = commands.refusal("up", "minimal", "--set", f"northbound_port={port}")
    assert f"port {port} of 127.0.0.1 is in use" in line
    assert "--set northbound_port=N" in line
    assert list(commands.runs_root.iterdir()) == []


def test_missing_kernel_feature_is_refused_before_anything_is_made(commands: CommandLine) -> None:
    if not missing_for_kernel_mode():
        pytest.skip("this kernel has all that kernel mode needs")
    line = commands.refusal("up", "minimal", "--set", "datapath=kernel")
    assert "this kernel has no openvswitch" in line
    assert "./testbed.sh vm run" in line
    assert list(commands.runs_root.iterdir()) == []


def test_xapp_folder_without_descriptor_is_refused(commands: CommandLine, tmp_path: Path) -> None:
    line = commands.refusal("up", "minimal", "--xapp", str(tmp_path))
    assert "config-file.json" in line
    assert list(commands.runs_root.iterdir()) == []


def xapp_folder(folder: Path, commands: CommandLine) -> Path:
    commands.output("xapp", "new", "mine", "--dir", str(folder))
    return folder


def test_broken_model_file_is_refused_before_anything_is_made(
    commands: CommandLine, tmp_path: Path
) -> None:
    folder = xapp_folder(tmp_path / "mine", commands)
    descriptor = json.loads((folder / "config-file.json").read_text())
    descriptor["holon"]["models"] = [{"path": "model.onnx", "sha256": "0" * 64}]
    (folder / "config-file.json").write_text(json.dumps(descriptor))
    (folder / "model.onnx").write_bytes(b"not what was trained")
    for command in ("up", "run"):
        assert "its descriptor states 0000" in commands.refusal(
            command, "minimal", "--xapp", str(folder)
        )
    assert list(commands.runs_root.iterdir()) == []


def test_xapp_that_does_not_start_ends_the_start_and_leaves_nothing(
    commands: CommandLine, tmp_path: Path
) -> None:
    folder = xapp_folder(tmp_path / "mine", commands)
    (folder / "xapp.py").write_text("raise SystemExit('no weights')\n")
    port = f"northbound_port={free_port()}"
    done = commands.run("up", "minimal", "--xapp", str(folder), "--set", port, timeout_s=120)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    words = "testbed.sh: xApp mine did not start: exited with status 1: no weights"
    assert last.startswith(words)
    kept = Path(last.rpartition("logs kept in ")[2])
    assert "no weights" in (kept / "xapp-mine.log").read_text()
    shutil.rmtree(kept)
    assert list(commands.runs_root.iterdir()) == []


def test_batch_run_writes_everything_and_leaves_nothing(
    commands: CommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shown = commands.output(
        "run", "minimal", "--duration", "3", "--set", "warmup_s=1",
        "--policy", "static", "--seed", "3",
        "--set", f"northbound_port={free_port()}", "--out", str(out), timeout_s=180,
    )  # fmt: skip
    assert "video" in shown
    assert str(out / "report.html") in shown
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary) >= SUMMARY_KEYS
    assert (summary["scenario"], summary["policy"], summary["seed"]) == ("minimal", "static", 3)
    assert summary["duration_s"] == 3
    assert {slice_["leaked_frames"] for slice_ in summary["slices"]} == {0}
    twins = summary["twins"]
    assert (twins["users"], twins["slices"], twins["rejected_reports"]) == (2, 2, 0)
    assert twins["updates_per_s"] == pytest.approx(4, rel=0.11)  # two users, every half second
    assert twins["inter_arrival_ms"]["p50"] == pytest.approx(500, rel=0.05)
    assert 0 < twins["age_ms"]["p50"] < 1000
    reports = twins["updates_per_s"] * summary["duration_s"]  # of the measured part, at least
    assert 300 * reports < twins["bytes_on_wire"] < 1500 * 4 * 60
    assert 0 < twins["aggregate_bytes_on_wire"] < 0.25 * twins["bytes_on_wire"]
    assert (out / "report.html").stat().st_size > 1000
    for table in ("probes", "flows", "decisions", "twins"):
        assert (out / f"{table}.parquet").is_file()
        with (out / f"{table}.csv").open() as file:
            assert next(csv.reader(file))
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert str(out / "report.html") in commands.output("report", str(out))
    assert (out / "report.html").read_text() == page
    (out / "cells.parquet").unlink()
    assert f"{out / 'cells.parquet'} is missing" in commands.refusal("report", str(out))
    assert list(commands.runs_root.iterdir()) == []
