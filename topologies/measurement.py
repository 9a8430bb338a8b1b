"""Measured windows of a running testbed: asks everybody for what they counted.

`begin` and `finish` frame a batch run's window and end its traffic, so that the
packet balance can be drawn; `live` looks at running traffic and draws none.
"""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from controller.contracts import rpc
from controller.contracts.decisions import DecisionRecord
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.slices import BACKGROUND_SLICE_ID, BEST_EFFORT_QUEUE_ID, TrafficClass
from controller.contracts.twin_budget import EdgeSpent
from topologies.datapath import Datapath
from topologies.errors import EmulationError
from topologies.results.evidence import (
    Evidence,
    SharedQueueDrops,
    SwitchCounts,
    SwitchTotals,
    reservation_changes,
)
from topologies.results.load import LoadSampler
from topologies.results.percentiles import percentiles
from topologies.results.summary import slice_figures
from topologies.scenario.schema import Scenario
from topologies.services.engine import ServiceEngine
from topologies.traffic.counters import WINDOW_NS
from topologies.traffic.engine import TrafficEngine

COUNTERS_SETTLE_S = 1.5
"""Open vSwitch credits forwarded packets to flow rules when it revalidates, within a second."""
EFFECTS_TIMEOUT_S = 4.0
"""The last decisions' effects are judged within their effect window."""
_PACKAGES = ("ryu", "mininet", "scapy", "onnxruntime", "pydantic", "fastapi")


class Measurement:
    """Of one run. All times CLOCK_REALTIME nanoseconds."""

    def __init__(
        self,
        run: RunFolder,
        scenario: Scenario,
        inventory: Inventory,
        traffic: TrafficEngine,
        vswitchd_pid: int,
        services: ServiceEngine,
    ) -> None:
        self._run = run
        self._scenario = scenario
        self._inventory = inventory
        self._traffic = traffic
        self._services = services
        self._load = LoadSampler(vswitchd_pid)
        self._start_ns: int | None = None
        self._spent: list[EdgeSpent] = []
        self.radio_drops: Callable[[], Mapping[int, int]] = dict
        """Packets dropped at users' radio links so far, by slice id."""
        self.function_drops: Callable[[], Mapping[int, int]] = dict
        """Packets dropped by network functions so far, by slice id."""

    def _next_window_ns(self) -> int:
        t0_ns = self._traffic.counters.t0_ns
        return t0_ns + ((time.time_ns() - t0_ns) // WINDOW_NS + 1) * WINDOW_NS

    # -- live -----------------------------------------------------------------

    async def live(self, duration_s: float, slice_name: str | None) -> dict[str, Any]:
        """Figures of whole windows from now on; ValueError for an unknown slice."""
        wanted = [s for s in self._inventory.slices if slice_name in (None, s.name)]
        if not wanted:
            known = ", ".join(s.name for s in self._inventory.slices)
            raise ValueError(f"unknown slice {slice_name!r}; known: {known}")
        start_ns = self._next_window_ns()
        end_ns = start_ns + max(1, round(duration_s)) * WINDOW_NS
        # Packets sent last need their way before they count as lost.
        await asyncio.sleep((end_ns - time.time_ns()) / 1e9 + 0.3)
        return await asyncio.to_thread(self._live_figures, start_ns, end_ns, wanted)

    def _live_figures(self, start_ns: int, end_ns: int, wanted: list[Any]) -> dict[str, Any]:
        measured = self._traffic.collect(start_ns, end_ns)
        changes = reservation_changes(self._inventory, self._decisions())
        bottlenecks = self._inventory.bottlenecks
        return {
            "duration_s": measured.window_count,
            "slices": [slice_figures(measured, s, changes, bottlenecks) for s in wanted],
        }

    # -- batch ----------------------------------------------------------------

    def begin(self) -> dict[str, int]:
        """The measured window starts at the next whole second of scenario time."""
        self._start_ns = self._next_window_ns()
        self._spent = self._spending()
        return {"start_ns": self._start_ns}

    def finish(self, out: Path) -> dict[str, Any]:
        """End the window and traffic, drain, write all results to `out`; the summary."""
        if self._start_ns is None:
            raise EmulationError("no measured window was begun")
        t0_ns = self._traffic.counters.t0_ns
        end_ns = t0_ns + (time.time_ns() - t0_ns) // WINDOW_NS * WINDOW_NS
        twins = self._twins()  # before traffic's end changes their age
        user_rows = self._user_rows(self._start_ns - WINDOW_NS)
        self._services.stop()
        self._traffic.stop()
        measured = self._traffic.collect(self._start_ns, end_ns)
        self._wait_for_effects()
        out.mkdir(parents=True, exist_ok=True)
        rpc.call(self._run.ric_socket, "flush", 60.0, out=str(out))
        evidence = Evidence(
            scenario=self._scenario,
            inventory=self._inventory,
            measurements=measured,
            load=self._load.between(self._start_ns, end_ns),
            decisions=self._decisions(),
            switches=self._switch_counts(),
            radio_drops=self.radio_drops(),
            function_drops=self.function_drops(),
            twins=twins,
            user_rows=user_rows,
            versions=versions(),
            slice_life=rpc.call(self._run.ric_socket, "slice_life", 30.0),
            delay=Datapath(self._inventory.datapath).delay,
            backlog_drops=self._load.backlog_drops(),
            requests=self._services.collect(measured.start_ns, measured.end_ns),
            request_packets=self._services.packets(),
            tcp_segments=self._traffic.segments(),
            whatif=rpc.call(self._run.ric_socket, "whatif", 10.0),
        )
        from topologies.results.report import write_results  # pyarrow takes long to load

        return write_results(out, evidence)

    def _decisions(self) -> list[DecisionRecord]:
        records = rpc.call(self._run.ric_socket, "records", 30.0)
        return [DecisionRecord.model_validate(r) for r in records]

    def _wait_for_effects(self) -> None:
        deadline_s = time.monotonic() + EFFECTS_TIMEOUT_S
        time.sleep(COUNTERS_SETTLE_S)
        while time.monotonic() < deadline_s:
            if not rpc.call(self._run.ric_socket, "status")["effects_open"]:
                return
            time.sleep(0.1)

    def _switch_counts(self) -> SwitchCounts | None:
        """None when a switch could not be read: then there is no balance."""
        counters = rpc.call(self._run.ric_socket, "switch_counters", 30.0)
        if counters["unread_switches"]:
            return None
        sharing = {
            s.slice_id
            for s in self._inventory.services
            if s.traffic_class is TrafficClass.BEST_EFFORT
        }
        sharing |= {
            s.slice_id
            for s in self._inventory.slices
            if s.default_class is TrafficClass.BEST_EFFORT
        }
        everybody = frozenset({s.slice_id for s in self._inventory.slices} | {BACKGROUND_SLICE_ID})
        shared = {BEST_EFFORT_QUEUE_ID: frozenset(sharing | {BACKGROUND_SLICE_ID})}
        if not self._inventory.slicing:
            shared[0] = everybody
        return SwitchCounts(
            slices={
                int(slice_id): SwitchTotals(
                    meter_drops=t["meter_drops"],
                    queue_drops=t["queue_drops"],
                    misses=t["misses"],
                )
                for slice_id, t in counters["slices"].items()
            },
            shared=[
                SharedQueueDrops(slice_ids, counters["shared_queue_drops"].get(str(queue_id), 0))
                for queue_id, slice_ids in shared.items()
            ],
        )

    def _twins(self) -> dict[str, Any]:
        """Of the local controllers; bytes on wire are reports and aggregates, since start."""
        edges = sorted({c.edge for c in self._inventory.cells})
        status = [self._local(edge, "status") for edge in edges]
        ages_ms = [age for edge in edges for age in self._local(edge, "ages")]
        intervals_ms = [
            interval_ms
            for edge in edges
            for of_user in self._local(edge, "inter_arrivals").values()
            for interval_ms in of_user
        ]
        return {
            "users": sum(s["twins"] for s in status),
            "slices": len(self._inventory.slices),
            "updates_per_s": sum(s["updates_per_s"] for s in status),
            "age_ms": percentiles(ages_ms),
            "inter_arrival_ms": percentiles(intervals_ms),
            "bytes_on_wire": sum(s["bytes_on_wire"] for s in status),
            "aggregate_bytes_on_wire": sum(s["aggregate_bytes_on_wire"] for s in status),
            "rejected_reports": sum(sum(s["rejected"].values()) for s in status),
            **_rates(self._spent, self._spending()),
            "predictions": _predictions([s["predictions"] for s in status]),
            "migrations": _twin_migrations([s["migrations"] for s in status]),
        }

    def _spending(self) -> list[EdgeSpent]:
        """What twins have cost so far, by edge."""
        edges = sorted({c.edge for c in self._inventory.cells})
        return [EdgeSpent.model_validate(self._local(edge, "spending")) for edge in edges]

    def _user_rows(self, since_ns: int) -> list[dict[str, Any]]:
        """As far back as twins' histories go; right after a handover two edges have the same."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for edge in sorted({c.edge for c in self._inventory.cells}):
            for twin in self._local(edge, "twins"):
                for row in self._local(edge, "rows", ue_id=twin["id"], since_ns=since_ns):
                    found[row["ue_id"], row["version"], row["slice_id"]] = row
        return sorted(found.values(), key=lambda row: (row["measured_at_ns"], row["ue_id"]))

    def _local(self, edge: str, op: str, **arguments: Any) -> Any:
        return rpc.call(self._run.local_controller_socket(edge), op, 10.0, **arguments)

    def stop(self) -> None:
        self._load.stop()


def _rates(before: Sequence[EdgeSpent], after: Sequence[EdgeSpent]) -> dict[str, Any]:
    """All twin bytes on the wire (reports, orders, aggregates, moves) and processor, in the
    measured window; None when a local controller was started anew in it."""
    if len(before) != len(after) or any(b.pid != a.pid for b, a in zip(before, after, strict=True)):
        return {"bytes_per_s": None, "processor_ratio": None}
    found = {"bytes_per_s": 0.0, "processor_ratio": 0.0}
    for b, a in zip(before, after, strict=True):
        span_s = (a.at_ns - b.at_ns) / 1e9
        found["bytes_per_s"] += (a.wire_bytes - b.wire_bytes) / span_s
        found["processor_ratio"] += (a.processor_s - b.processor_s) / span_s
    return found


def _predictions(of_edges: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean absolute errors of forecasts in user twins, and persistence's, over all edges."""
    found: dict[str, Any] = {"made": sum(p["made"] for p in of_edges)}
    for quantity, unit in (("location", "m"), ("demand", "kbps")):
        samples = sum(p[f"{quantity}_samples"] for p in of_edges)
        found[f"{quantity}_samples"] = samples
        for kind in ("error", "naive_error"):
            key = f"{quantity}_{kind}_{unit}"
            total = sum((p[key] or 0.0) * p[f"{quantity}_samples"] for p in of_edges)
            found[key] = total / samples if samples else None
    return found


def _twin_migrations(of_edges: list[dict[str, Any]]) -> dict[str, Any]:
    """User twins that moved between edges; `gap_ms`: until the new edge held them."""
    return {
        "count": sum(m["sent"] for m in of_edges),
        "failed": sum(m["failed"] for m in of_edges),
        "bytes": sum(m["bytes"] for m in of_edges),
        "gap_ms": percentiles([gap for m in of_edges for gap in m["gaps_ms"]]),
        "versions_lost": sum(m["versions_lost"] for m in of_edges),
    }


def versions() -> dict[str, str]:
    """Of everything whose change could change a figure."""
    switch = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True)
    return {
        "python": platform.python_version(),
        "kernel": os.uname().release,
        "open_vswitch": switch.stdout.splitlines()[0].rpartition(" ")[2],
        **{name: version(name) for name in _PACKAGES},
    }
