"""What task services do: each instance is asked once a second, away from the loop.

Requests and held state are the instance's own count, processor time is the kernel's of its
process.  Two readings make a load; an instance that was started anew begins again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.contracts.inventory import Inventory
from controller.contracts.rpc import AsyncConnection, RpcError
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import instance_socket, task_services
from controller.twins.slice_sums import ServiceLoad

PERIOD_S = 1.0
ASK_TIMEOUT_S = 0.5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Consume = Callable[[Sequence[ServiceLoad], int, int], None]
"""(loads, period_ms, now_ns)"""


@dataclass(frozen=True)
class Reading:
    """Of one instance, cumulative since its process began."""

    slice_id: int
    host: str
    pid: int
    requests: int
    processor_s: float
    state_bytes: int


Key = tuple[str, str]
"""(service, host)"""


def processor_s(stat: str) -> float:
    """User and system time of `/proc/<pid>/stat` (proc(5), fields 14 and 15)."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def loads_between(
    before: dict[Key, Reading], after: dict[Key, Reading], elapsed_s: float
) -> list[ServiceLoad]:
    """Instances that both readings have."""
    return [
        ServiceLoad(
            slice_id=now.slice_id,
            host=now.host,
            requests_per_s=(now.requests - then.requests) / elapsed_s,
            compute_cores=(now.processor_s - then.processor_s) / elapsed_s,
            cache_bytes=now.state_bytes,
        )
        for key, now in after.items()
        if (then := before.get(key)) is not None and then.pid == now.pid
    ]


class ServiceLoads:
    """Polls the instances of a run; does nothing where the scenario has no task service."""

    def __init__(self, run: RunFolder, inventory: Inventory, consume: Consume) -> None:
        self._run = run
        self._consume = consume
        self._instances = {
            (s.name, host): (s.slice_id, AsyncConnection(instance_socket(run, s.name, host)))
            for s in task_services(inventory)
            for host in dict.fromkeys([s.host, *s.candidates])
        }
        self._before: dict[Key, Reading] = {}
        self._read_at_ns = 0

    async def run(self) -> None:
        while self._instances:
            await asyncio.sleep(PERIOD_S)
            await self.poll()

    async def poll(self) -> None:
        readings = await asyncio.gather(*(self._read(key) for key in self._instances))
        now_ns = time.time_ns()
        after = {key: r for key, r in zip(self._instances, readings, strict=True) if r is not None}
        elapsed_s = (now_ns - self._read_at_ns) / 1e9
        loads = loads_between(self._before, after, elapsed_s)
        self._before, self._read_at_ns = after, now_ns
        if loads:
            self._consume(loads, round(elapsed_s * 1000), now_ns)

    async def _read(self, key: Key) -> Reading | None:
        """None: no such instance now, or it does not answer in time."""
        slice_id, connection = self._instances[key]
        if not instance_socket(self._run, *key).exists():
            return None
        try:
            status = await connection.call("status", ASK_TIMEOUT_S)
            spent_s = processor_s(Path(f"/proc/{status['pid']}/stat").read_text())
        except (RpcError, OSError):
            return None
        return Reading(
            slice_id,
            key[1],
            status["pid"],
            status["served_here"],
            spent_s,
            status["state_bytes"],
        )

    def close(self) -> None:
        for _, connection in self._instances.values():
            connection.close()
