"""How many flow changes a handover costs each switch, as the switches themselves tell it.

Open vSwitch reports every flow that is added, replaced or deleted to whoever monitors
a bridge (`ovs-ofctl monitor`), so what is counted here is what happened, not what was meant.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import testbed
from controller.contracts.run_folder import RunFolder
from topologies.cli.northbound import Northbound, running

CLEARED_S = 2.5
"""After the last handover its source is still being cleared for 2 s."""
PATIENCE_S = 60.0


@dataclass(frozen=True)
class FlowMods:
    """`by_switch`: flows added, replaced or deleted during `handovers` between `cells`."""

    handovers: int
    cells: frozenset[str]
    by_switch: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "cells": sorted(self.cells)}


@contextmanager
def monitored(run: RunFolder) -> Iterator[dict[str, Path]]:
    """Switch -> file in which its flow changes are told, a line each."""
    with tempfile.TemporaryDirectory(prefix="holon-monitor-") as folder:
        files: dict[str, Path] = {}
        watching: list[subprocess.Popen[bytes]] = []
        try:
            for socket in sorted(run.ovs.glob("*.mgmt")):
                file = files[socket.stem] = Path(folder) / socket.stem
                target = ["monitor", f"unix:{socket}", "watch:!initial", "--unixctl=none"]
                command = ["ovs-ofctl", "-O", "OpenFlow13", *target]
                with file.open("wb") as out:
                    watching.append(subprocess.Popen(command, stdout=out, stderr=out))
            yield files
        finally:
            for process in watching:
                process.terminate()
                process.wait(10)


def counted(file: Path) -> int:
    """Raises SystemExit when the switch could not be watched."""
    text = file.read_text()
    if "ovs-ofctl:" in text:
        raise SystemExit(f"switch {file.name} cannot be watched: {text.strip()}")
    return text.count("event=")


def measure(handovers: int) -> FlowMods:
    """Of so many handovers on a testbed of its own (scenario `handover`)."""
    testbed("up", "handover", "--policy", "static")
    try:
        run = running()
        api = Northbound(run)
        with monitored(run) as files:
            before = len(_applied(api))
            deadline_s = time.monotonic() + PATIENCE_S
            while len(_applied(api)) < before + handovers:
                if time.monotonic() > deadline_s:
                    raise SystemExit(f"fewer than {handovers} handovers in {PATIENCE_S:.0f} s")
                time.sleep(0.05)
            time.sleep(CLEARED_S)
            made = _applied(api)[before:]
            by_switch = {name: counted(file) for name, file in files.items()}
        # The user drives to and fro, so two handovers name both cells it was in.
        cells = frozenset(str(record["parameters"]["cell_id"]) for record in made)
        return FlowMods(len(made), cells, by_switch)
    finally:
        testbed("down")


def _applied(api: Northbound) -> list[dict[str, Any]]:
    return list(api.get("decisions", action="handover", verdict="applied", last=1000))
