"""The RIC's real process on an in-memory enforcement: `python -m tests.ric_process RUN_FOLDER`.

Everything is as in `python -m controller.ric` but the switches: sockets, namespaces,
HTTP, xApp processes.  Traffic is a constant demand for the class in TRAFFIC, of
which a queue delivers as much as its ceiling allows.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.slices import TrafficClass
from controller.ric.measurement import ClassCount, CounterSample
from controller.ric.process import run_ric
from tests.in_memory_enforcer import InMemoryEnforcer

TRAFFIC = ("ap1", 1, TrafficClass.ELASTIC)
DEMAND_KBPS = 11_000


class LoadedEnforcer(InMemoryEnforcer):
    """Counts `DEMAND_KBPS` of traffic since it was made."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        super().__init__(inventory)
        self._counted_at_ns = time.time_ns()
        if "RIC_TEST_START_FAILURE" in os.environ:
            self.failure = RuntimeError(os.environ["RIC_TEST_START_FAILURE"])
        self.unconfirmed = os.environ.get("RIC_TEST_UNCONFIRMED")

    async def sample(self) -> CounterSample:
        now_ns = time.time_ns()
        elapsed_s = (now_ns - self._counted_at_ns) / 1e9
        self._counted_at_ns = now_ns
        before = self.counts.get(TRAFFIC, ClassCount(0, 0))
        ceiling_kbps = self._reservations["ap1"][TRAFFIC[1:]].max_kbps
        delivered_kbps = min(DEMAND_KBPS, ceiling_kbps)
        self.counts[TRAFFIC] = ClassCount(
            before.arrived_bytes + int(DEMAND_KBPS * 125 * elapsed_s),
            (before.delivered_bytes or 0) + int(delivered_kbps * 125 * elapsed_s),
        )
        return CounterSample(now_ns, dict(self.counts), {})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(run_ric(Path(sys.argv[1]), LoadedEnforcer))
