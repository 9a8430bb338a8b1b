"""How wrong user twins were: what a reader saw against the emulation's own truth. Pure.

For evaluation only, after the run: positions and radio are functions of the scenario, demand and
loss are the senders' and receivers' counts, who served whom is what was confirmed.  A reader
looks ten times a second and sees the newest report measured by then, so an error has in it how
old the twin was (but for the report's own way to the edge, of which histories keep no time).
Demand and loss are compared by the second and user in a slice.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.contracts.inventory import Inventory
from topologies.mobility import position_m, speed_mps
from topologies.radio import powers_dbm
from topologies.results.evidence import Attachment, Evidence, attachments
from topologies.scenario.schema import Scenario, UserSpec
from topologies.traffic.counters import WINDOW_NS
from topologies.traffic.engine import Measurements

LOOKS_PER_S = 10
LOOKS_MAX = 20_000
"""Of all users together; beyond, a reader looks less often."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Track:
    """One user's reports, oldest first, and when each was measured."""

    at_ns: Sequence[int]
    rows: Sequence[Row]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Track:
        by_version = {row["version"]: row for row in rows}
        ordered = sorted(by_version.values(), key=lambda row: row["measured_at_ns"])
        return cls([row["measured_at_ns"] for row in ordered], ordered)

    def with_value(self, name: str) -> Track:
        return Track.of(row for row in self.rows if row[name] is not None)

    def seen(self, now_ns: int) -> Row | None:
        place = bisect_right(self.at_ns, now_ns)
        return self.rows[place - 1] if place else None


def twin_errors(evidence: Evidence) -> dict[str, Any]:
    """Attribute -> mean, p50, p95, max and number of errors; empty without any report."""
    if not evidence.user_rows:
        return {}
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for row in evidence.user_rows:
        rows[row["ue_id"]].append(row)
    found: defaultdict[str, list[float]] = defaultdict(list)
    measured = evidence.measurements
    looks_ns = _looks(measured.start_ns, measured.end_ns, len(rows))
    served = attachments(evidence.inventory, evidence.decisions)
    users = {user.name: user for user in evidence.scenario.users}
    for ue_id, own in rows.items():
        look = Looks(evidence.scenario, evidence.inventory, users[ue_id], measured.t0_ns)
        for name, errors in look.errors(Track.of(own), looks_ns, served).items():
            found[name] += errors
    for name, errors in traffic_errors(evidence.user_rows, measured).items():
        found[name] += errors
    return {name: figures(errors) for name, errors in sorted(found.items())}


def figures(errors: Sequence[float]) -> dict[str, float | int | None]:
    if not errors:
        return {"mean": None, "p50": None, "p95": None, "max": None, "samples": 0}
    values = np.asarray(errors)
    p50, p95 = np.percentile(values, (50, 95))
    return {
        "mean": round(float(values.mean()), 6),
        "p50": round(float(p50), 6),
        "p95": round(float(p95), 6),
        "max": round(float(values.max()), 6),
        "samples": len(values),
    }


def _looks(start_ns: int, end_ns: int, users: int) -> list[int]:
    wanted = (end_ns - start_ns) * LOOKS_PER_S // WINDOW_NS
    count = max(1, min(wanted, LOOKS_MAX // max(1, users)))
    return [start_ns + i * (end_ns - start_ns) // count for i in range(count)]


@dataclass(frozen=True)
class Looks:
    """A reader's looks at one user's twin, beside the truth."""

    scenario: Scenario
    inventory: Inventory
    user: UserSpec
    t0_ns: int

    def errors(
        self, track: Track, looks_ns: Sequence[int], served: Sequence[Attachment]
    ) -> dict[str, list[float]]:
        """`serving_cell_wrong` is 0 or 1 a look; `age_ms` is no error but explains them."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        places, speeds = track.with_value("x_m"), track.with_value("speed_mps")
        heard = track.with_value("rsrp_dbm")
        cells = [(a.at_ns, a.cell_id) for a in served if a.ue_id == self.user.name]
        for now_ns in looks_ns:
            t_s = (now_ns - self.t0_ns) / 1e9
            here_m = position_m(self.user.mobility, self.scenario.seed, self.user.name, t_s)
            if (newest := track.seen(now_ns)) is not None:
                found["age_ms"].append((now_ns - newest["measured_at_ns"]) / 1e6)
                true_cell = cells[bisect_right(cells, now_ns, key=lambda c: c[0]) - 1][1]
                found["serving_cell_wrong"].append(float(newest["cell_id"] != true_cell))
            if (row := places.seen(now_ns)) is not None:
                found["location_m"].append(math.dist(here_m, (row["x_m"], row["y_m"])))
            if (row := speeds.seen(now_ns)) is not None:
                found["speed_mps"].append(abs(speed_mps(self.user.mobility) - row["speed_mps"]))
            if self.user.radio_trace is None and (row := heard.seen(now_ns)) is not None:
                true_dbm = self._power_dbm(row["cell_id"], here_m, t_s)
                found["rsrp_dbm"].append(abs(true_dbm - row["rsrp_dbm"]))
        return found

    def _power_dbm(self, cell_id: str, here_m: tuple[float, float], t_s: float) -> float:
        names = [ap.name for ap in self.scenario.access_points]
        return powers_dbm(self.scenario, here_m, t_s)[names.index(cell_id)]


def traffic_errors(rows: Iterable[Row], measured: Measurements) -> dict[str, list[float]]:
    """Downlink by user, slice and second, where the testbed's own senders make all of it.

    Senders count frames of a second; twins' windows that end within it are averaged.
    """
    counted = [f for f in measured.flows if f.direction == "down" and f.ue_id]
    by_tcp = {(f.ue_id, f.slice_id) for f in counted if f.kind == "tcp"}
    flows: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for flow in counted:
        if (flow.ue_id, flow.slice_id) not in by_tcp:
            flows[flow.ue_id, flow.slice_id].append(flow.flow_id)
    seen: defaultdict[tuple[str, int, int], list[Row]] = defaultdict(list)
    for row in rows:
        ended_ns = (row["window"] + 1) * row["period_ms"] * 1_000_000
        second = (ended_ns - 1 - measured.start_ns) // WINDOW_NS
        seen[row["ue_id"], row["slice_id"], second].append(row)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for (ue_id, slice_id), ids in flows.items():
        sent, got = measured.sent_packets[ids].sum(axis=0), measured.received_packets[ids].sum(0)
        sent_kbps = measured.sent_bytes[ids].sum(axis=0) * 8 / 1000
        for second in range(measured.window_count):
            own = seen.get((ue_id, slice_id, second))
            if not own:
                continue
            demand_kbps = float(np.mean([row["demand_kbps"] for row in own]))
            found["demand_kbps"].append(abs(demand_kbps - float(sent_kbps[second])))
            if sent[second]:
                lost_ratio = 1 - float(got[second]) / float(sent[second])
                told_ratio = float(np.mean([row["loss_ratio"] for row in own]))
                found["loss_ratio"].append(abs(told_ratio - lost_ratio))
    return found
