"""Everything a summary is made of: what the hosts, switches and controllers counted.

Plain data. The emulation fills one `Evidence` when a measured window is over;
every figure of the results follows from it without asking anybody again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.contracts.decisions import Action, DecisionRecord, Verdict
from controller.contracts.inventory import Inventory
from controller.contracts.slices import SNssai, TrafficClass
from topologies.scenario.schema import Scenario
from topologies.services.packet_counts import Datagrams
from topologies.traffic.engine import Measurements


@dataclass(frozen=True)
class LoadSample:
    """Mean load between the sample before and `at_ns`, `duration_s` later; 1 = all of it."""

    at_ns: int
    duration_s: float
    machine_ratio: float
    vswitchd_ratio: float
    """The busiest thread of ovs-vswitchd, as a share of one processor."""


@dataclass(frozen=True)
class ReservationChange:
    """From `at_ns` on (slice, class) has `min_kbps` guaranteed in the cell, L2."""

    at_ns: int
    cell_id: str
    slice_id: int
    traffic_class: str
    min_kbps: float


@dataclass(frozen=True)
class Attachment:
    """From `at_ns` on the user is served by the cell."""

    at_ns: int
    ue_id: str
    cell_id: str


@dataclass(frozen=True)
class SwitchTotals:
    """Packets of one slice since traffic start, as the switches counted them.

    `entered` at user and server ports after port security, `delivered` to hosts.
    `queue_drops` are those of queues that the slice has for itself.
    """

    meter_drops: int
    queue_drops: int
    misses: int = 0
    """Dropped by a rule: no way to the destination from where the packet was."""


@dataclass(frozen=True)
class SharedQueueDrops:
    """Packets dropped by queues that these slices share; whose they were nobody knows."""

    slice_ids: frozenset[int]
    packets: int


@dataclass(frozen=True)
class SwitchCounts:
    """Read after traffic has stopped and drained."""

    slices: dict[int, SwitchTotals]
    shared: list[SharedQueueDrops] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    scenario: Scenario
    inventory: Inventory
    measurements: Measurements
    load: Sequence[LoadSample]
    decisions: Sequence[DecisionRecord]
    switches: SwitchCounts | None
    """None makes the run invalid: without it no packet balance exists."""
    twins: dict[str, Any]
    """users, slices, updates_per_s, age_ms {p50, p95, p99}, bytes_on_wire."""
    versions: dict[str, str]
    delay: str
    """How wires delay: netem or wirefilter."""
    slice_life: Sequence[dict[str, Any]] = ()
    """What became of slices during the run, oldest first (see slice_life.py)."""
    backlog_drops: int = 0
    """Frames the machine's receive backlogs dropped since traffic start, whoever's they were."""
    radio_drops: Mapping[int, int] = field(default_factory=dict)
    """At users' radio links, both directions, by slice id."""
    function_drops: Mapping[int, int] = field(default_factory=dict)
    """By network functions, as they counted it, by slice id."""
    twin_rows: Sequence[dict[str, Any]] = ()
    user_rows: Sequence[dict[str, Any]] = ()
    """A user, slice and report, as users' twins still had them (`UserRow`)."""
    requests: Mapping[str, Any] = field(default_factory=dict)
    """Of task services: {"rows": one a request, "regressions": by service}."""
    request_packets: Mapping[int, Datagrams] = field(default_factory=dict)
    """Requests and replies since traffic start, by slice id, as the hosts counted them."""
    tcp_segments: Mapping[int, Datagrams] = field(default_factory=dict)
    """Of TCP flows, by flow id, as the hosts' kernels counted them."""
    whatif: dict[str, Any] = field(default_factory=dict)
    """Predictions made, forks applied with their errors, rehearsals: the RIC's own summary."""


def reservation_changes(
    inventory: Inventory,
    decisions: Iterable[DecisionRecord],
    life: Iterable[Mapping[str, Any]] = (),
) -> list[ReservationChange]:
    """What the scenario's slices had reserved when: first, by decisions, by changes of slices.

    A decision counts from its last confirmation on.
    """
    changes = [
        ReservationChange(0, c.cell_id, r.slice_id, r.traffic_class.value, r.min_kbps)
        for c in inventory.initial_reservations
        for r in c.reservations
    ]
    for record in decisions:
        if record.action is Action.RESERVE and record.verdict is Verdict.APPLIED:
            changes.extend(_changes_of(record, inventory))
    for line in life:
        if any(s.slice_id == line["slice_id"] for s in inventory.slices):
            changes.extend(_changes_by_life(line, inventory))
    return sorted(changes, key=lambda change: change.at_ns)


def attachments(inventory: Inventory, decisions: Iterable[DecisionRecord]) -> list[Attachment]:
    """Who was served where: the first attachment, then every applied handover."""
    first = [Attachment(0, u.ue_id, u.cell_id) for u in inventory.users]
    moved = [
        Attachment(moment_ns(r), str(r.target["ue_id"]), str(r.parameters["cell_id"]))
        for r in decisions
        if r.action is Action.HANDOVER and r.verdict is Verdict.APPLIED
    ]
    return sorted([*first, *moved], key=lambda attachment: attachment.at_ns)


def moment_ns(record: DecisionRecord) -> int:
    """When a decision took effect, or failing that was last heard of (CLOCK_REALTIME)."""
    return record.hops_ns.get("confirmed") or max(record.hops_ns.values(), default=0)


def _changes_by_life(line: Mapping[str, Any], inventory: Inventory) -> list[ReservationChange]:
    """The slice's reservations after the change; 0 wherever it has none."""
    held = {(r["cell_id"], r["traffic_class"]): r["min_kbps"] for r in line["reserved"]}
    classes = {c for _, c in held} | {c.value for c in TrafficClass}
    return [
        ReservationChange(
            line["at_ns"], cell.cell_id, line["slice_id"], name, held.get((cell.cell_id, name), 0)
        )
        for cell in inventory.cells
        for name in sorted(classes)
    ]


def _changes_of(record: DecisionRecord, inventory: Inventory) -> list[ReservationChange]:
    """Both shapes of `DecisionRequest`: one slice, or a cell's plan."""
    one = {**record.target, **record.parameters}
    asked: list[dict[str, Any]] = record.parameters.get("reservations") or [one]
    changes = []
    for item in asked:
        s_nssai = SNssai.model_validate(item["s_nssai"])
        slice_ = next((s for s in inventory.slices if s.s_nssai == s_nssai), None)
        if slice_ is None:  # created since
            continue
        traffic_class = item.get("traffic_class") or slice_.default_class.value
        changes.append(
            ReservationChange(
                moment_ns(record),
                str(record.target["cell_id"]),
                slice_.slice_id,
                str(traffic_class),
                float(item["min_kbps"]),
            )
        )
    return changes
