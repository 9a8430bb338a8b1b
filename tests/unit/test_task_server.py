"""An instance of a task service by itself: when it looks at its lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.contracts.run_folder import RunFolder
from controller.contracts.services import Holder, Lease, Phase, lease_path
from topologies.services.instance_order import InstanceOrder
from topologies.services.task_server import LEASE_IDLE_POLL_S, TaskServer

OWN, OTHER = 0, 1
ORDER = InstanceOrder(
    address="127.0.0.1",
    port=0,
    state_bytes=100_000,
    pages_per_request=1,
    work_ms=0.0,
    transfer_mbps=None,
    local_ip="127.0.0.1",
    transfer_tcp_port=0,
    host_index=OWN,
    sessions=4,
)
WATCHED_S = 1.0


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return Lease.create(lease_path(RunFolder(tmp_path), "assist"), Holder(1, OTHER))


def looks_of(server: TaskServer, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When it looked, from now on."""
    at_s: list[float] = []
    look: Callable[[], Holder] = server._lease.holder

    def seen() -> Holder:
        at_s.append(time.monotonic())
        return look()

    monkeypatch.setattr(server._lease, "holder", seen)
    return at_s


def test_an_idle_instance_looks_seldom_and_a_ready_one_often(
    tmp_path: Path, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watched() -> tuple[int, int, Phase]:
        server = TaskServer(RunFolder(tmp_path), "assist", "edge1", ORDER)
        looks = looks_of(server, monkeypatch)
        following = asyncio.create_task(server.follow_lease())
        await asyncio.sleep(WATCHED_S)
        idle = len(looks)
        server._complete()
        await asyncio.sleep(WATCHED_S)
        ready = len(looks) - idle
        assert lease.swap(Holder(1, OTHER), Holder(2, OWN))
        await asyncio.sleep(LEASE_IDLE_POLL_S)
        following.cancel()
        server.socket.close()
        return idle, ready, server._phase

    idle, ready, phase = asyncio.run(watched())
    assert 0 < idle <= WATCHED_S / LEASE_IDLE_POLL_S + 1
    assert ready > 3 * idle
    assert phase is Phase.LIVE
