"""`clean` removes all that a run made, also while some of it was killed and is on its way back.

The emulation itself killed: tests/emulated/test_lifecycle.py.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.conftest import CommandLine, free_port


def test_clean_removes_everything_after_a_kill(command_line: CommandLine) -> None:
    command_line.output(
        "up", "minimal", "--policy", "static", "--set", f"northbound_port={free_port()}",
        timeout_s=120,
    )  # fmt: skip
    run_folder = (command_line.runs_root / "current").resolve()
    run_id = run_folder.name
    status = command_line.json("status")
    pids = {p["name"]: p["pid"] for p in status["processes"]}
    for victim in ("ric", "ovs-vswitchd", "ryu"):
        os.kill(pids[victim], signal.SIGKILL)
    command_line.output("clean")
    assert processes_of(run_id) == []
    assert not run_folder.exists()
    assert not Path(f"/run/netns/holon-{run_id}").exists()


def processes_of(run_id: str) -> list[str]:
    wanted = f"HOLON_RUN_ID={run_id}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().decode())
        except OSError:
            continue
    return found
