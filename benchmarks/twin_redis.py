"""The reference for twins: the obvious client code over Redis, fed with the same datagrams.

`python -m benchmarks.twin_redis SOCKET PORT LENGTH attribute|report REPORTS`.  Every attribute of
a report goes into the user's hash (its twin) and the user's stream (its history).
`attribute`: a write to each per attribute; `report`: one to each per report, with all its
attributes.  Nothing is checked, aggregated or forecast.  Ends after so many reports and
prints its own processor seconds for them.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

import redis

from controller.contracts.addressing import COLLECTOR_IP

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_SO_RCVBUFFORCE = 33


def attributes_of(report: dict[str, Any]) -> dict[str, Any]:
    """Names and values as a hash takes them."""
    named: dict[str, Any] = {
        "serving_cell": report["cell_id"],
        "rsrp_dbm": json.dumps(report["rsrp_dbm"]),
        "location_m": json.dumps(report["position_m"]),
        "speed_mps": report["speed_mps"],
        "kind": report["kind"],
    }
    for flow in report["flows"]:
        place = f"services.{flow['service']}.{'up' if flow['up'] else 'down'}"
        for name in ("slice_id", "demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms"):
            if flow[name] is not None:
                named[f"{place}.{name}"] = flow[name]
    return named


def write_each(database: Any, report: dict[str, Any], length: int) -> None:
    ue_id = report["ue_id"]
    for name, value in attributes_of(report).items():
        database.hset(f"twin:{ue_id}", name, value)
        database.xadd(f"history:{ue_id}", {name: value}, maxlen=24 * length)


def write_whole(database: Any, report: dict[str, Any], length: int) -> None:
    ue_id, attributes = report["ue_id"], attributes_of(report)
    database.hset(f"twin:{ue_id}", mapping=attributes)
    database.xadd(f"history:{ue_id}", attributes, maxlen=length)


def run(path: str, port: int, length: int, write: Any, reports: int) -> None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    opened.bind((COLLECTOR_IP, port))
    database = redis.Redis(unix_socket_path=path)
    database.ping()
    print("ready", flush=True)
    opened.settimeout(30)
    begun_s = -1.0
    for number in range(reports + 1):
        payload, _ = opened.recvfrom(65_536)
        write(database, json.loads(payload), length)
        if number == 0:
            begun_s, wall_s = time.process_time(), time.monotonic()
    spent = {"processor_s": time.process_time() - begun_s, "wall_s": time.monotonic() - wall_s}
    print(json.dumps({**spent, "reports": reports}), flush=True)


if __name__ == "__main__":
    chosen = {"attribute": write_each, "report": write_whole}[sys.argv[4]]
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), chosen, int(sys.argv[5]))
