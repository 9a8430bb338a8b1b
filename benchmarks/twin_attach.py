"""Twins on a running testbed: how soon one exists after attach, and what they cost on its wires."""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from typing import Any

from benchmarks.runs import testbed
from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder, current_run

SCENARIO = "crossroads"
POLL_S = 0.004
PATIENCE_S = 20.0
MOVING_USER = "phone2"
"""Stands at sbs2, which edge2 serves; mbs is edge1's."""
HOME_CELL, AWAY_CELL = "sbs2", "mbs"


class Seen:
    """Notes when a local controller has a user's twin for the first time, in a thread."""

    def __init__(self, run: RunFolder, edge: str, ue_ids: list[str]) -> None:
        self.answered_at_ns = 0
        self.at_ns: dict[str, int] = {}
        self._socket = run.local_controller_socket(edge)
        self._wanted = set(ue_ids)
        self._ending = False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while self._wanted - self.at_ns.keys() and not self._ending:
            try:
                twins = rpc.call(self._socket, "twins")
            except rpc.RpcError:
                time.sleep(POLL_S)
                continue
            now_ns = time.time_ns()
            self.answered_at_ns = self.answered_at_ns or now_ns
            for twin in twins:
                self.at_ns.setdefault(twin["id"], now_ns)
            time.sleep(POLL_S)

    def wait(self) -> dict[str, int]:
        """Until they all have one; SystemExit when some have none in `PATIENCE_S` from now."""
        self._thread.join(PATIENCE_S)
        self._ending = True
        self._thread.join()
        missing = ", ".join(sorted(self._wanted - self.at_ns.keys()))
        if missing:
            here = rpc.call(self._socket, "status")
            raise SystemExit(f"no twin of {missing} after {PATIENCE_S} s: {here}")
        return self.at_ns


def after_restart_ms(run: RunFolder, edge: str, ue_ids: list[str]) -> list[float]:
    """The edge's controller is killed and knows nobody: from its first answer to each twin."""
    pid = rpc.call(run.local_controller_socket(edge), "status")["pid"]
    os.kill(pid, signal.SIGKILL)
    seen = Seen(run, edge, ue_ids)
    at_ns = seen.wait()
    return [(at_ns[u] - seen.answered_at_ns) / 1e6 for u in ue_ids]


def after_handover_ms(run: RunFolder, inventory: Inventory) -> float:
    """From the confirmed handover to a cell of another edge to the twin there.

    The user is back home before (event A3 brings it), and its twin has left the other edge.
    """
    edge = inventory.cell(AWAY_CELL).edge
    end_s = time.monotonic() + PATIENCE_S
    while _cell_of(MOVING_USER) != HOME_CELL or _has_twin(run, edge, MOVING_USER):
        if time.monotonic() > end_s:
            raise SystemExit(f"{MOVING_USER} did not come back to {HOME_CELL}")
        time.sleep(0.2)
    seen = Seen(run, edge, [MOVING_USER])
    record = json.loads(testbed("ue", "handover", MOVING_USER, AWAY_CELL, "--json").stdout)
    confirmed_ns = int(record["hops_ns"]["confirmed"])
    return max(0.0, (seen.wait()[MOVING_USER] - confirmed_ns) / 1e6)


def _has_twin(run: RunFolder, edge: str, ue_id: str) -> bool:
    return ue_id in {t["id"] for t in rpc.call(run.local_controller_socket(edge), "twins")}


def on_a_testbed(
    restarts: int, handovers: int, seconds: float, settings: list[str]
) -> dict[str, Any]:
    """Brings `SCENARIO` up and down; `settings` as for `up --set`."""
    testbed("up", SCENARIO, "--policy", "static", *(w for s in settings for w in ("--set", s)))
    try:
        run = current_run()
        assert run is not None
        inventory = Inventory.load(run.inventory)
        edges = sorted({c.edge for c in inventory.cells})
        time.sleep(3)
        costs = _costs(run, edges, seconds)
        twins_at = {e: [t["id"] for t in _call(run, e, "twins")] for e in edges}
        busiest = max(edges, key=lambda e: len(twins_at[e]))
        restarted_ms = [
            ms for _ in range(restarts) for ms in after_restart_ms(run, busiest, twins_at[busiest])
        ]
        moved_ms = [after_handover_ms(run, inventory) for _ in range(handovers)]
        moves = _moves(run, edges)
    finally:
        testbed("down")
    every_ms = sorted([*restarted_ms, *moved_ms])
    return {
        **costs,
        **moves,
        "after_restart_ms": restarted_ms,
        "after_handover_ms": moved_ms,
        "attach_samples": len(every_ms),
        "twin_after_attach_p99_ms": statistics.quantiles(every_ms, n=100, method="inclusive")[98],
    }


def _moves(run: RunFolder, edges: list[str]) -> dict[str, Any]:
    """Of twins between edges, since their controllers started: from the old edge's notice until
    the new one served the twin, over the network, and versions that its history then lacked."""
    found = [_call(run, e, "status")["migrations"] for e in edges]
    gaps_ms = sorted(ms for f in found for ms in f["gaps_ms"])
    return {
        "twin_migration_gaps_ms": gaps_ms,
        "twin_migration_gap_p50_ms": statistics.median(gaps_ms),
        "twin_migration_gap_max_ms": gaps_ms[-1],
        "twin_versions_lost": sum(f["versions_lost"] for f in found),
    }


def _call(run: RunFolder, edge: str, op: str) -> Any:
    return rpc.call(run.local_controller_socket(edge), op)


def _cell_of(ue_id: str) -> str:
    users = json.loads(testbed("ue", "list", "--json").stdout)
    return next(str(u["cell_id"]) for u in users if u["ue_id"] == ue_id)


def _costs(run: RunFolder, edges: list[str], seconds: float) -> dict[str, Any]:
    """Bytes of reports and aggregates, twins' ages and inter-arrivals, while nobody touches it."""
    before = [_call(run, e, "status") for e in edges]
    ages_ms: list[float] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        time.sleep(0.11)
        ages_ms += [age for e in edges for age in _call(run, e, "ages")]
    after = [_call(run, e, "status") for e in edges]
    intervals_ms = [
        i for e in edges for own in _call(run, e, "inter_arrivals").values() for i in own
    ]

    def grown(name: str) -> float:
        return float(sum(b[name] - a[name] for a, b in zip(before, after, strict=True)))

    return {
        "users": sum(s["twins"] for s in after),
        "report_bytes_per_s": grown("bytes_on_wire") / seconds,
        "aggregate_bytes_per_s": grown("aggregate_bytes_on_wire") / seconds,
        "aggregate_share": grown("aggregate_bytes_on_wire") / grown("bytes_on_wire"),
        "age_p99_ms": statistics.quantiles(ages_ms, n=100)[98],
        "inter_arrival_mean_ms": statistics.mean(intervals_ms),
    }
