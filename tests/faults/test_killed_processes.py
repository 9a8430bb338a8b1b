"""Any process of a running testbed may be killed: traffic goes on, and it comes back."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from controller.contracts import rpc
from tests.conftest import RunningTestbed
from tests.waiting import wait_until


def process(testbed: RunningTestbed, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        p for p in testbed.commands.json("status")["processes"] if p["name"] == name
    )
    return found


def loss_ratio(testbed: RunningTestbed, duration_s: int) -> float:
    """Of the video slice over the next seconds."""
    answer = testbed.commands.json("measure", "--slice", "video", "--duration", str(duration_s))
    ratio: float = answer["slices"][0]["loss_ratio"]
    return ratio


@pytest.mark.parametrize("name", ["ryu", "ric", "local-edge1", "user-agents"])
def test_a_killed_process_comes_back(testbed: RunningTestbed, name: str) -> None:
    before = process(testbed, name)
    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        now = process(testbed, name)
        return bool(now["alive"] and now["pid"] != before["pid"])

    wait_until(is_back, 10.0)
    assert process(testbed, name)["restarts"] == before["restarts"] + 1


def test_traffic_does_not_notice_that_ryu_is_killed(testbed: RunningTestbed) -> None:
    wait_until(lambda: process(testbed, "ryu")["alive"], 10.0)
    assert loss_ratio(testbed, 2) == 0
    os.kill(process(testbed, "ryu")["pid"], signal.SIGKILL)
    assert loss_ratio(testbed, 5) == 0

    def reconnected() -> bool:
        try:
            status = rpc.call(testbed.run_folder / "ric.sock", "status", 5.0)
        except rpc.RpcError:
            return False
        return set(status["connected"]) == {"air", "ap1", "core"}

    wait_until(reconnected, 10.0)
