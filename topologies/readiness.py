"""Bring-up as others see it: its steps as they happen, and what must answer before it is done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import orjson

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.patience import stretched_s
from controller.contracts.run_folder import RunFolder
from topologies.errors import EmulationError
from topologies.supervisor import Supervisor

READY_TIMEOUT_S = stretched_s(30.0)


class Progress:
    """Steps of bring-up as JSON lines, followed by `testbed.sh up`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def step(self, step: str, error: str | None = None) -> None:
        line = {"step": step, "error": error, "at_ns": time.time_ns()}
        with self._path.open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")


async def await_local_controllers(
    run: RunFolder, inventory: Inventory, supervisor: Supervisor
) -> None:
    """A testbed without one has no user twins: say so now, not when they are missed."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    for edge in sorted({c.edge for c in inventory.cells}):
        path = run.local_controller_socket(edge)
        while True:
            supervisor.require_alive(f"local-{edge}")
            with contextlib.suppress(rpc.RpcUnavailable):
                await asyncio.to_thread(rpc.call, path, "status", READY_TIMEOUT_S)
                break
            if time.monotonic() > deadline_s:
                last = supervisor.last_line(f"local-{edge}")
                raise EmulationError(f"local controller of {edge} does not answer; {last}")
            await asyncio.sleep(0.05)
