"""A stand for twins: a real local controller in a namespace of its own, fed over its loopback.

The controller is the testbed's process, unchanged.  Every address of slice 0 is local in
that namespace; nobody listens at the centre's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rules import scenario_with
from benchmarks.twin_reports import CELLS, cell_of
from controller.contracts import rpc
from controller.contracts.addressing import COLLECTOR_UDP_PORT
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_models import TwinSettings, agent_settings
from topologies import namespaces
from topologies.describe import as_planned
from topologies.scenario.schema import Scenario

EDGE = "edge1"
_TICKS_PER_S = 100
_START_S = 20.0


@dataclass
class Stand:
    """`processor_s` and memory are the controller's own."""

    run: RunFolder
    namespace: str
    inventory: Inventory
    controller: subprocess.Popen[bytes]
    sequence: int = 0

    def call(self, op: str, **arguments: Any) -> Any:
        return rpc.call(self.run.local_controller_socket(EDGE), op, **arguments)

    def start_reports(
        self, period_ms: int, duration_s: float, users: int, port: int = COLLECTOR_UDP_PORT
    ) -> subprocess.Popen[str]:
        """The sender, in a process of its own; it prints how many it sent."""
        ue_id = self.inventory.users[0].ue_id
        settings = agent_settings(TwinSettings.model_validate(self.call("settings", ue_id=ue_id)))
        noted = {
            "sequence": self.sequence,
            "settings_version": settings.version,
            "slice_id": self.inventory.users[0].sessions[0].slice_id,
        }
        (self.run.path / "reporters.json").write_text(json.dumps(noted))
        self.sequence += round(duration_s * 1000 / period_ms) + 1
        return self.start(
            "benchmarks.twin_reports",
            str(self.run.path), str(period_ms), str(duration_s), str(port), str(users),
        )  # fmt: skip

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """A module of ours in the stand's namespace."""
        command = [sys.executable, "-P", "-m", module, *arguments]
        path = namespaces.named_path(self.namespace)
        return subprocess.Popen(
            namespaces.command_in(path, command), stdout=subprocess.PIPE, text=True
        )

    @property
    def processor_s(self) -> float:
        return processor_s(self.controller.pid)


def processor_s(pid: int) -> float:
    """Of all its threads since it began, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def finished(process: subprocess.Popen[str], timeout_s: float) -> str:
    """What it printed; SystemExit when it failed."""
    output, _ = process.communicate(timeout=timeout_s)
    if process.returncode != 0:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")
    return output


def inventory_of(users: int, run_id: str) -> Inventory:
    """Crossroads' network with so many phones, all of them at the two cells of `EDGE`."""
    scenario = Scenario.model_validate(scenario_with(users))
    serving = {u.name: cell_of(i) for i, u in enumerate(scenario.users)}
    inventory = as_planned(scenario, "static", serving, run_id)
    assert {c.cell_id for c in inventory.cells if c.edge == EDGE} == {*CELLS}
    return inventory


@contextmanager
def stand(users: int) -> Iterator[Stand]:
    """Up with no twin yet; everything is gone afterwards."""
    name = f"holon-bench-{users}"
    with tempfile.TemporaryDirectory(prefix="holon-twins-") as folder:
        run = RunFolder(Path(folder))
        inventory = inventory_of(users, name)
        run.inventory.write_text(inventory.model_dump_json())
        namespaces.create(name)
        try:
            path = namespaces.named_path(name)
            namespaces.run_in(path, ["ip", "route", "add", "local", "10.0.0.0/16", "dev", "lo"])
            command = [sys.executable, "-P", "-m", "controller.local", folder, EDGE]
            controller = subprocess.Popen(namespaces.command_in(path, command))
            try:
                made = Stand(run, name, inventory, controller)
                _wait(made)
                yield made
            finally:
                controller.terminate()
                controller.wait(10)
        finally:
            namespaces.delete(name)


def _wait(made: Stand) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        try:
            made.call("status")
        except rpc.RpcUnavailable:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the local controller did not answer")
