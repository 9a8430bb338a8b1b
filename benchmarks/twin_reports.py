"""Reports of many users as datagrams, sent by a process of its own: `bench twins` is fed by it.

`python -m benchmarks.twin_reports FOLDER PERIOD_MS DURATION_S PORT [USERS]`, started in the stand's
namespace.  Each user has a socket at its own address and its fixed moment in a period; a
report is measured when it leaves, as user agents do.  In every report every rate, delay,
loss, place, speed and RSRP differs from the last, so what changes is known.
"""

from __future__ import annotations

import gc
import json
import random
import socket
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from controller.contracts.addressing import COLLECTOR_IP
from controller.contracts.inventory import Inventory, User
from controller.contracts.run_folder import RunFolder

FLOWS = (("video", False), ("download", False), ("probe-embb", False), ("probe-embb", True))
CELLS = ("mbs", "sbs1")
"""Of edge1, which serves everybody in the stand."""
ATTRIBUTES_CHANGED = 3 + 4 * 3 + 3
"""RSRP, place, speed; demand, goodput, loss, delay of three flows; of an upward flow no delay."""
CONTENTS = 61
"""Different ones, taken in turn: a prime, so that no user repeats itself soon."""


def cell_of(user_index: int) -> str:
    return CELLS[user_index % len(CELLS)]


def contents(slice_id: int, cell_ids: list[str], seed: int = 1) -> list[dict[str, Any]]:
    """What reports say, without whose they are and when."""
    noise = random.Random(seed)

    def flow(service: str, up: bool) -> dict[str, Any]:
        demand_kbps = round(noise.uniform(300, 900), 3)
        return {
            "service": service,
            "slice_id": slice_id,
            "up": up,
            "demand_kbps": demand_kbps,
            "goodput_kbps": round(demand_kbps * noise.uniform(0.9, 0.97), 3),
            "loss_ratio": round(noise.uniform(0, 0.02), 6),
            "owd_p95_ms": None if up else round(noise.uniform(2, 20), 3),
        }

    return [
        {
            "rsrp_dbm": {  # nobody is handed over
                c: round((-70 if c in CELLS else -90) - noise.uniform(0, 1), 2) for c in cell_ids
            },
            "position_m": [round(noise.uniform(0, 100), 3), round(noise.uniform(0, 100), 3)],
            "speed_mps": round(noise.uniform(1, 9), 3),
            "flows": [flow(*f) for f in FLOWS],
        }
        for _ in range(CONTENTS)
    ]


class Reporter:
    """One user: its socket, and its next report."""

    def __init__(
        self, user: User, index: int, period_ms: int, parts: list[bytes], noted: dict[str, int]
    ) -> None:
        self._opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._opened.bind((user.infrastructure_ip, 0))
        self._period_ms = period_ms
        self._parts = parts
        self._sequence = noted["sequence"]
        self._at = index
        self._head = orjson.dumps(
            {
                "ue_id": user.ue_id,
                "kind": user.kind,
                "cell_id": cell_of(index),
                "period_ms": period_ms,
                "settings_version": noted["settings_version"],
            }
        )[:-1]

    def send(self, port: int) -> None:
        self._sequence += 1
        self._at += 1
        now_ns = time.time_ns()
        when = (
            f',"sequence":{self._sequence},"measured_at_ns":{now_ns},'
            f'"window":{now_ns // (self._period_ms * 1_000_000) - 1},'
        )
        part = self._parts[self._at % len(self._parts)]
        self._opened.sendto(self._head + when.encode() + part, (COLLECTOR_IP, port))


def send_for(reporters: list[Reporter], period_ms: int, duration_s: float, port: int) -> int:
    """Everybody once a period, evenly spread over 0.4 of it; how many were sent."""
    gap_ns = round(0.4 * period_ms * 1e6 / len(reporters))
    period_ns = period_ms * 1_000_000
    begin_ns = (time.time_ns() // period_ns + 1) * period_ns
    rounds = round(duration_s * 1e9 / period_ns)
    for number in range(rounds):
        for place, reporter in enumerate(reporters):
            wait_ns = begin_ns + number * period_ns + place * gap_ns - time.time_ns()
            if wait_ns > 100_000:
                time.sleep(wait_ns / 1e9)
            reporter.send(port)
    return rounds * len(reporters)


def run(folder: Path, period_ms: int, duration_s: float, port: int, users: int) -> None:
    inventory = Inventory.load(RunFolder(folder).inventory)
    noted = json.loads((folder / "reporters.json").read_text())
    made = contents(noted["slice_id"], [c.cell_id for c in inventory.cells])
    parts = [orjson.dumps(content)[1:] for content in made]
    reporters = [
        Reporter(user, i, period_ms, parts, noted) for i, user in enumerate(inventory.users[:users])
    ]
    gc.disable()
    print(send_for(reporters, period_ms, duration_s, port), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
