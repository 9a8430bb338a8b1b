"""A recorded run as the what-if emulator's input and truth: traffic, rates, probes by time.

Reads a results folder.  Only for judging and calibrating: it knows what the network's twins
do not, such as who was served where at each moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slices import SNssai, TrafficClass
from controller.whatif.emulator import STEP_MS, Course, Traffic, emulate, scheduled
from controller.whatif.links import FloatArray, IntArray, Rates
from controller.whatif.paths import Paths, paths_of
from controller.whatif.reservations import Columns, rates_of
from topologies.fluid import serving_index, with_seed
from topologies.results.tables import read_table
from topologies.scenario.loader import load
from topologies.scenario.schema import ReservationSpec, Scenario
from topologies.traffic.flows import L2_OVERHEAD_BYTES

WARM_UP_S = 3.0
NOT_JUDGED_S = 1.0
"""What was offered before the window is not recorded. Its queues are guessed from what came first,
which is wrong where demand was just rising; probes of the first second are therefore left out."""
TCP_L2_RATIO = 1.045
"""Frames over goodput of TCP with full segments."""
SCENARIOS = Path(__file__).resolve().parent / "scenarios"


@dataclass(frozen=True)
class Probes:
    """Downlink probes that arrived, in no order: seconds into the window (from `NOT_JUDGED_S` on),
    rows and columns."""

    t_s: FloatArray
    cell: IntArray
    slice: IntArray
    owd_ms: FloatArray


@dataclass(frozen=True)
class Recorded:
    """`offered_kbps`, `delivered_kbps` [window of 1 s, cell, slice]; L2."""

    name: str
    summary: dict[str, Any]
    scenario: Scenario
    columns: Columns
    offered_kbps: FloatArray
    delivered_kbps: FloatArray
    tcp_kbps: FloatArray
    """The same of TCP, which is in neither of them: its mean, at the cell of its user."""
    changes: list[tuple[float, Rates]]
    """(seconds into the window, rates from then on), in order; the first at 0."""
    paths: Paths
    probes: Probes

    @property
    def duration_s(self) -> float:
        return float(self.offered_kbps.shape[0])

    @cached_property
    def course(self) -> Course:
        """The run again, in the emulator, under the traffic that was measured.

        The first window's traffic runs `WARM_UP_S` before it, so that queues are as they were.
        """
        own = finer(self.offered_kbps + self.tcp_kbps)
        early = round(WARM_UP_S * 1000 / STEP_MS)
        own = np.concatenate([np.broadcast_to(own[:1], (early, *own.shape[1:])), own])
        filler = np.broadcast_to(self.filler_kbps[None, :, None], (*own.shape[:2], 1))
        traffic = Traffic(np.concatenate([own, filler], axis=2))
        at = [(early + round(t_s * 1000 / STEP_MS), rates) for t_s, rates in self.changes[1:]]
        course = emulate(self.columns.classes(), traffic, self.changes[0][1], scheduled(at))
        return Course(
            course.offered_kbps[early:],
            course.delivered_kbps[early:],
            course.lost_kbps[early:],
            course.wait_ms[early:],
            course.step_ms,
        )

    def steps_of(self, t_s: FloatArray) -> IntArray:
        """The course's step at these seconds into the window."""
        last = self.course.wait_ms.shape[0] - 1
        return np.asarray(np.clip((t_s * 1000 / STEP_MS).astype(np.int64), 0, last))

    @property
    def filler_kbps(self) -> FloatArray:
        background = self.scenario.background
        ratio = background.rate_ratio if background else 0.0
        filled = [cell in self.scenario.bottlenecks for cell in self.columns.cells]
        return np.asarray(np.array(self.columns.link_kbps) * ratio * np.array(filled))


def finer(windows_kbps: FloatArray) -> FloatArray:
    """[window of 1 s, ...] -> [step, ...]: between windows straight lines, their means kept."""
    per_window = round(1000 / STEP_MS)
    count = windows_kbps.shape[0]
    at_s = (np.arange(count * per_window) + 0.5) / per_window
    flat = windows_kbps.reshape(count, -1)
    nodes, fine = flat.copy(), np.empty((at_s.size, flat.shape[1]))
    for _ in range(4):
        for column in range(flat.shape[1]):
            fine[:, column] = np.interp(at_s, np.arange(count) + 0.5, nodes[:, column])
        missing = flat - fine.reshape(count, per_window, -1).mean(axis=1)
        nodes = np.maximum(nodes + missing, 0.0)
    return np.asarray(fine.reshape(at_s.size, *windows_kbps.shape[1:]))


def find_scenario(name: str) -> Scenario:
    own = SCENARIOS / f"{name}.yaml"
    return load(str(own) if own.exists() else name, [])


def read(folder: Path) -> Recorded:
    """Raises FileNotFoundError when the folder has no results."""
    summary = json.loads((folder / "summary.json").read_text())
    scenario = with_seed(find_scenario(summary["scenario"]), summary["seed"])
    flows = read_table(folder, "flows")
    cells = [c["cell_id"] for c in summary["cells"]]
    link_kbps = [1000.0 * c["down_mbps"] for c in summary["cells"]]
    slices = [s["name"] for s in summary["slices"]]
    pairs = [(s.slice_id, s.default_class) for s in scenario.slices]
    background = scenario.background
    filler_bytes = (background.packet_bytes if background else 1400) + L2_OVERHEAD_BYTES
    packet_bits = [*(8 * b for b in packet_bytes(flows, scenario)), 8.0 * filler_bytes]
    columns = Columns(cells, link_kbps, pairs, packet_bits, scenario.reservable_ratio)
    table = read_table(folder, "cells")
    shape = (int(summary["duration_s"]), len(cells), len(slices))
    offered, delivered, tcp = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    first = min(table["window"])
    where = (
        np.array(table["window"]) - first,
        np.array([cells.index(c) for c in table["cell_id"]]),
        np.array([slices.index(s) for s in table["slice"]]),
    )
    offered[where] = 1000 * np.array(table["offered_mbps"])
    delivered[where] = 1000 * np.array(table["delivered_mbps"])
    t0_s = (summary["measured"]["start_ns"] - summary["measured"]["t0_ns"]) / 1e9
    _add_tcp(flows, scenario, tcp, t0_s)
    return Recorded(
        folder.name,
        summary,
        scenario,
        columns,
        offered,
        delivered,
        tcp,
        _changes(folder, summary, scenario, columns),
        paths_of(Inventory.load(folder / "inventory.json")),
        _probes(folder, summary, scenario, slices),
    )


def packet_bytes(flows: dict[str, list[Any]], scenario: Scenario) -> FloatArray:
    """[slice]: mean L2 bytes of a downlink packet."""
    found = np.zeros(len(scenario.slices))
    sent_bytes = np.array([b or 0 for b in flows["sent_l2_bytes"]], dtype=float)
    packets = np.array([p or 0 for p in flows["sent_packets"]], dtype=float)
    down = np.array([d == "down" for d in flows["direction"]])
    slice_id = np.array(flows["slice_id"])
    for index, slice_ in enumerate(scenario.slices):
        own = down & (slice_id == slice_.slice_id)
        found[index] = sent_bytes[own].sum() / max(1.0, packets[own].sum())
    return found


def _add_tcp(
    flows: dict[str, list[Any]], scenario: Scenario, offered: FloatArray, t0_s: float
) -> None:
    """TCP is in no table by the second."""
    ids = [s.slice_id for s in scenario.slices]
    at_s = np.asarray(t0_s + np.arange(offered.shape[0]) + 0.5, dtype=np.float64)
    for kind, direction, ue_id, slice_id, mbps in zip(
        flows["kind"],
        flows["direction"],
        flows["ue_id"],
        flows["slice_id"],
        flows["tcp_goodput_mbps"],
        strict=True,
    ):
        if kind == "tcp" and direction == "down" and mbps:
            serving = serving_index(scenario, ue_id, at_s)
            offered[np.arange(offered.shape[0]), serving, ids.index(slice_id)] += (
                1000 * TCP_L2_RATIO * mbps
            )


def _changes(
    folder: Path, summary: dict[str, Any], scenario: Scenario, columns: Columns
) -> list[tuple[float, Rates]]:
    specs = {"static": scenario.static_reservations, "none": []}.get(
        summary["policy"], scenario.initial_reservations
    )
    plan: dict[str, dict[int, Reservation]] = {cell: {} for cell in columns.cells}
    for spec in specs:
        plan[spec.access_point][_slice_id(scenario, spec)] = specified(scenario, spec)
    changes: list[tuple[float, Rates]] = []

    def note(t_s: float) -> None:
        changes.append((t_s, rates_of(columns, {c: list(r.values()) for c, r in plan.items()})))

    table = read_table(folder, "decisions")
    rows = zip(
        table["confirmed_ns"],
        table["action"],
        table["verdict"],
        table["target"],
        table["parameters"],
        strict=True,
    )
    started = False
    for confirmed_ns, action, verdict, target, parameters in sorted(rows, key=lambda r: r[0] or 0):
        if action != "reserve" or verdict != "applied":
            continue
        t_s = (confirmed_ns - summary["measured"]["start_ns"]) / 1e9
        if t_s > 0 and not started:
            note(0.0)
            started = True
        where, asked = json.loads(target), json.loads(parameters)
        for item in asked.get("reservations") or [{**where, **asked}]:
            s_nssai = SNssai.model_validate(item["s_nssai"])
            slice_ = next(s for s in scenario.slices if s.s_nssai == s_nssai)
            plan[where["cell_id"]][slice_.slice_id] = Reservation(
                slice_id=slice_.slice_id,
                traffic_class=item.get("traffic_class") or slice_.default_class,
                min_kbps=round(item["min_kbps"]),
                max_kbps=round(item["max_kbps"]),
            )
        if t_s > 0:
            note(t_s)
    if not started:
        note(0.0)
    return changes


def _slice_id(scenario: Scenario, spec: ReservationSpec) -> int:
    return next(s.slice_id for s in scenario.slices if s.name == spec.slice)


def specified(scenario: Scenario, spec: ReservationSpec) -> Reservation:
    """A reservation of the scenario as the emulation resolves it (`topologies/describe.py`)."""
    slice_ = next(s for s in scenario.slices if s.name == spec.slice)
    link_mbps = next(a.down_mbps for a in scenario.access_points if a.name == spec.access_point)
    factor = 1.0 if slice_.default_class is TrafficClass.REAL_TIME else 2.0
    max_mbps = (
        spec.max_mbps if spec.max_mbps is not None else min(factor * spec.min_mbps, link_mbps)
    )
    return Reservation(
        slice_id=slice_.slice_id,
        traffic_class=slice_.default_class,
        min_kbps=round(1000 * spec.min_mbps),
        max_kbps=round(1000 * max_mbps),
    )


def _probes(folder: Path, summary: dict[str, Any], scenario: Scenario, slices: list[str]) -> Probes:
    table = read_table(folder, "probes")
    down = np.array([d == "down" for d in table["direction"]])
    ue = np.array(table["ue_id"])[down]
    sent_ns = np.array(table["sent_ns"])[down]
    t_s = (sent_ns - summary["measured"]["start_ns"]) / 1e9
    from_t0_s = (sent_ns - summary["measured"]["t0_ns"]) / 1e9
    cell = np.zeros(t_s.size, dtype=np.int64)
    for user in np.unique(ue):
        own = np.flatnonzero(ue == user)
        order = own[np.argsort(from_t0_s[own])]
        cell[order] = serving_index(scenario, str(user), from_t0_s[order])
    column = np.array([slices.index(s) for s in np.array(table["slice"])[down]], dtype=np.int64)
    kept = t_s >= NOT_JUDGED_S
    owd_ms = np.array(table["owd_ms"])[down]
    return Probes(t_s[kept], cell[kept], column[kept], owd_ms[kept])
