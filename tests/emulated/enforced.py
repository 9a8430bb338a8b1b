"""A network under the real Ryu and the real Enforcer, for emulated tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from controller.contracts.addressing import service_ip, session_ip
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.enforcement import Enforcer
from tests.waiting import wait_until

T = TypeVar("T")
_POLL_S = 0.02


@dataclass
class Enforced:
    """`run` drives the Enforcer's event loop; between calls its watch stands still."""

    testbed: Any
    runner: asyncio.Runner
    enforcer: Enforcer
    ryu: subprocess.Popen[bytes] | None = field(default=None)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def watch_until(self, predicate: Callable[[], object], timeout_s: float) -> float:
        """Let the Enforcer work until `predicate()`; seconds it took."""

        async def wait() -> float:
            started_s = time.monotonic()
            while not predicate():
                waited_s = time.monotonic() - started_s
                assert waited_s < timeout_s, f"{predicate} not true within {timeout_s} s"
                await asyncio.sleep(_POLL_S)
            return time.monotonic() - started_s

        return self.run(wait())

    def in_background(self, work: Callable[[], T]) -> T:
        """Run blocking `work` in a thread while the Enforcer's loop runs."""

        async def go() -> T:
            return await asyncio.to_thread(work)

        return self.run(go())

    def start_ryu(self) -> None:
        log = self.testbed.run.logs / "ryu.log"
        with log.open("ab") as out:
            self.ryu = subprocess.Popen(
                [sys.executable, "-m", "controller.ryu_launcher", str(self.testbed.run.path)],
                stdout=out,
                stderr=out,
            )

    def kill_ryu(self) -> None:
        if self.ryu is not None:
            self.ryu.kill()
            self.ryu.wait()
            self.ryu = None

    def flows(self, switch: str) -> list[str]:
        """What ovs-ofctl, which is nobody's friend here, sees on the switch."""
        socket = f"unix:{self.testbed.run.ovs / (switch + '.mgmt')}"
        command = ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", socket]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [line.strip() for line in done.stdout.splitlines() if "cookie=" in line]

    def ofctl(self, *words: str) -> str:
        command = ["ovs-ofctl", "-O", "OpenFlow13", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def bridge(self, switch: str) -> str:
        return f"unix:{self.testbed.run.ovs / (switch + '.mgmt')}"


@contextmanager
def enforced(testbed: Any) -> Iterator[Enforced]:
    """Ryu up, everything installed and confirmed."""
    testbed.run.inventory.write_text(testbed.inventory.model_dump_json())
    with asyncio.Runner() as runner:
        network = Enforced(testbed, runner, Enforcer(testbed.inventory, testbed.run))
        network.start_ryu()
        try:
            # Loading it takes a slow machine longer than the Enforcer waits for switches.
            wait_until(testbed.run.ryu_socket.exists, 60.0)
            network.run(network.enforcer.start())
            confirmations = network.run(network.enforcer.install())
            assert all(c.confirmed for c in confirmations), confirmations
            yield network
        finally:
            network.run(network.enforcer.stop())
            network.kill_ryu()


def reservation(
    slice_id: int, traffic_class: TrafficClass, min_kbps: int, max_kbps: int
) -> Reservation:
    return Reservation(
        slice_id=slice_id, traffic_class=traffic_class, min_kbps=min_kbps, max_kbps=max_kbps
    )


def video(min_kbps: int, max_kbps: int) -> Reservation:
    return reservation(1, TrafficClass.ELASTIC, min_kbps, max_kbps)


def control(kbps: int) -> Reservation:
    return reservation(2, TrafficClass.REAL_TIME, kbps, kbps)


UE1_VIDEO, UE1_CONTROL, UE2_VIDEO = session_ip(1, 0), session_ip(2, 0), session_ip(1, 1)
STREAM, TASK = service_ip(1, 0), service_ip(2, 1)
"""In slice 1 on edge1, in slice 2 in the cloud (see networks.two_cells)."""
