"""Counters of the whole network at one moment, named by cell and slice instead of by number.

All are totals since the network was built: meters' earlier lives (a modified
meter starts anew) are included by Ryu.  Flow totals (`entered`, `delivered`,
`violations`, ...) lag by up to a second, because Open vSwitch pushes them when
it revalidates; ports, queues and meters are read from the datapath itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from controller.contracts.inventory import Port
from controller.contracts.queue_tree import INFRASTRUCTURE_QUEUE_ID
from controller.contracts.slices import (
    BEST_EFFORT_QUEUE_ID,
    CONTROL_QUEUE_ID,
    TrafficClass,
)
from controller.network_view import Network
from controller.switch_program import (
    NO_SLICE,
    Direction,
    Kind,
    MeterUse,
    kind_and_slice,
)

_SHARED = frozenset({INFRASTRUCTURE_QUEUE_ID, CONTROL_QUEUE_ID, BEST_EFFORT_QUEUE_ID})


@dataclass(frozen=True)
class PortCounters:
    switch: str
    port_no: int
    interface: str
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int


@dataclass(frozen=True)
class QueueCounters:
    """`slice_id` None: a queue shared by slices (0 infrastructure, 1 control, 2 best-effort)."""

    switch: str
    port_no: int
    interface: str
    queue_id: int
    slice_id: int | None
    traffic_class: TrafficClass | None
    tx_packets: int
    tx_bytes: int
    drop_packets: int


@dataclass(frozen=True)
class MeterCounters:
    """`packets` arrived at the meter, `drop_packets` of them were dropped."""

    switch: str
    meter_id: int
    cell_id: str
    slice_id: int
    traffic_class: TrafficClass | None
    direction: Direction
    ue_id: str | None
    packets: int
    bytes: int
    drop_packets: int
    drop_bytes: int


@dataclass
class SliceTotals:
    """Packets of one slice in the whole network.

    `delivered` counts what was sent towards a user or server; on a switch that
    also meters, what its meter dropped is counted in both.
    """

    entered: int = 0
    delivered: int = 0
    meter_drops: int = 0
    queue_drops: int = 0
    """In its own queues; see `Counters.shared_queue_drops` for the others."""
    violations: int = 0
    misses: int = 0


@dataclass(frozen=True)
class Counters:
    at_ns: int
    ports: list[PortCounters] = field(default_factory=list)
    queues: list[QueueCounters] = field(default_factory=list)
    meters: list[MeterCounters] = field(default_factory=list)
    slices: dict[int, SliceTotals] = field(default_factory=dict)
    shared_queue_drops: dict[int, int] = field(default_factory=dict)
    """Queue id -> packets."""
    security_drops: int = 0
    unsupported_drops: int = 0
    other_misses: int = 0
    """Misses before the slice was known, and paths that lead back."""
    unread_switches: dict[str, str] = field(default_factory=dict)
    """Switch -> why its counters are missing from the sums."""

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "slices": {str(i): asdict(t) for i, t in self.slices.items()},
            "shared_queue_drops": {str(i): n for i, n in self.shared_queue_drops.items()},
        }


def assemble(
    network: Network,
    meter_uses: Mapping[str, Mapping[int, MeterUse]],
    answers: Mapping[str, Mapping[str, Any]],
    at_ns: int,
) -> Counters:
    """`answers`: switch name -> what Ryu's `counters` said of it. Pure.

    `meter_uses`: switch name -> every meter that ever was there.
    """
    total = _Sum(network, at_ns)
    for switch, answer in answers.items():
        if "error" in answer:
            total.counters.unread_switches[switch] = answer["error"]
            continue
        total.add_ports(switch, answer["ports"])
        total.add_queues(switch, answer["queues"])
        total.add_meters(switch, answer["meters"], meter_uses[switch])
        total.add_flows(answer["flows"])
    return total.finish()


class _Sum:
    def __init__(self, network: Network, at_ns: int) -> None:
        self.counters = Counters(at_ns, slices={i: SliceTotals() for i in network.slice_ids})
        self._ports: dict[tuple[str, int], Port] = {
            (p.switch, p.port_no): p for p in network.inventory.ports
        }
        self._kinds: dict[Kind, int] = dict.fromkeys(Kind, 0)

    def add_ports(self, switch: str, ports: Mapping[str, Mapping[str, int]]) -> None:
        for number, counts in ports.items():
            port = self._ports.get((switch, int(number)))
            if port is not None:  # the bridge's own local port is nobody's
                here = PortCounters(switch, port.port_no, port.interface, **counts)
                self.counters.ports.append(here)

    def add_queues(self, switch: str, queues: list[Mapping[str, int]]) -> None:
        for counts in queues:
            port = self._ports.get((switch, counts["port_no"]))
            if port is None:
                continue
            queue_id = counts["queue_id"]
            shared = queue_id in _SHARED
            own = None if shared else (queue_id >> 2, _class_of(queue_id & 3))
            self.counters.queues.append(
                QueueCounters(
                    switch,
                    port.port_no,
                    port.interface,
                    queue_id,
                    None if own is None else own[0],
                    None if own is None else own[1],
                    counts["tx_packets"],
                    counts["tx_bytes"],
                    counts["drop_packets"],
                )
            )
            self._count_queue_drops(queue_id, own, counts["drop_packets"])

    def _count_queue_drops(
        self, queue_id: int, own: tuple[int, TrafficClass] | None, drops: int
    ) -> None:
        if own is None:
            shared = self.counters.shared_queue_drops
            shared[queue_id] = shared.get(queue_id, 0) + drops
        elif own[0] in self.counters.slices:
            self.counters.slices[own[0]].queue_drops += drops

    def add_meters(
        self, switch: str, meters: Mapping[str, Mapping[str, int]], uses: Mapping[int, MeterUse]
    ) -> None:
        for number, counts in meters.items():
            use = uses.get(int(number))
            if use is None or use.slice_id not in self.counters.slices:
                continue  # not ours, or the slice is gone
            self.counters.meters.append(
                MeterCounters(
                    switch,
                    int(number),
                    use.cell_id,
                    use.slice_id,
                    use.traffic_class,
                    use.direction,
                    use.ue_id,
                    **counts,
                )
            )
            self.counters.slices[use.slice_id].meter_drops += counts["drop_packets"]

    def add_flows(self, flows: list[Mapping[str, int]]) -> None:
        for counts in flows:
            kind, slice_id = kind_and_slice(counts["cookie"])
            if slice_id == NO_SLICE:
                self._kinds[kind] += counts["packets"]
                continue
            if slice_id not in self.counters.slices:
                continue  # read while its slice was ending
            totals = self.counters.slices[slice_id]
            name = _SLICE_KINDS[kind]
            setattr(totals, name, getattr(totals, name) + counts["packets"])

    def finish(self) -> Counters:
        values = {
            **vars(self.counters),
            "security_drops": self._kinds[Kind.SECURITY],
            "unsupported_drops": self._kinds[Kind.UNSUPPORTED],
            "other_misses": self._kinds[Kind.MISS],
        }
        return Counters(**values)


_SLICE_KINDS = {
    Kind.ENTER: "entered",
    Kind.DELIVER: "delivered",
    Kind.VIOLATION: "violations",
    Kind.MISS: "misses",
}


def _class_of(code: int) -> TrafficClass:
    return next(c for c in TrafficClass if c.code == code)
