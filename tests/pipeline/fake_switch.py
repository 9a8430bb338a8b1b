"""A flow table without a switch: packets through compiled rules, counted like a switch does.

Meters are asked through `passes`, so that a test decides which drop. Only what the
pipeline uses is understood; anything else raises.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.switch_program import IN_PORT, Flow, Kind, SwitchProgram, kind_and_slice

Packet = Mapping[str, Any]
"""OpenFlow field names to values; addresses as text."""


@dataclass(frozen=True)
class Sent:
    port_no: int
    packet: Packet
    queue_id: int | None


@dataclass
class FakeSwitch:
    program: SwitchProgram
    passes: Callable[[int], bool] = lambda meter_id: True
    packets: Counter[int] = field(default_factory=Counter)
    """By cookie."""
    metered: list[int] = field(default_factory=list)
    dropped_by: Kind | None = None

    def receive(self, packet: Packet, in_port: int) -> list[Sent]:
        """What leaves the switch; `dropped_by` says why nothing did."""
        self.dropped_by = None
        run = _Run(dict(packet, in_port=in_port), 0, None, [])
        table_id: int | None = 0
        flow: Flow | None = None
        while table_id is not None:
            flow = self._lookup(table_id, run)
            if flow is None:
                raise AssertionError(f"table {table_id} has no miss rule for {packet}")
            self.packets[flow.cookie] += 1
            if flow.meter_id is not None:
                assert flow.meter_id in self.program.meters, f"no meter {flow.meter_id}"
                self.metered.append(flow.meter_id)
                if not self.passes(flow.meter_id):
                    return []
            run = _apply(flow, run)
            table_id = flow.goto
        assert flow is not None
        if not run.sent:
            self.dropped_by = kind_and_slice(flow.cookie)[0]
        return run.sent

    def count(self, kind: Kind, slice_id: int | None = None) -> int:
        found = 0
        for cookie, packets in self.packets.items():
            its_kind, its_slice = kind_and_slice(cookie)
            if its_kind is kind and slice_id in (None, its_slice):
                found += packets
        return found

    def _lookup(self, table_id: int, run: _Run) -> Flow | None:
        hits = [
            f
            for f in self.program.flows.values()
            if f.table_id == table_id and _matches(f, run.packet, run.metadata)
        ]
        best = max(hits, key=lambda f: f.priority, default=None)
        if best is not None:
            rivals = [f for f in hits if f.priority == best.priority and f is not best]
            assert not rivals, f"ambiguous: {best} and {rivals}"
        return best


@dataclass(frozen=True)
class _Run:
    packet: dict[str, Any]
    metadata: int
    queue_id: int | None
    sent: list[Sent]


def _apply(flow: Flow, run: _Run) -> _Run:
    for action in flow.actions:
        match action:
            case ("set_field", str(name), value):
                run = replace(run, packet={**run.packet, name: value})
            case ("set_queue", int(queue_id)):
                run = replace(run, queue_id=queue_id)
            case ("output", int(port_no)):
                if port_no == run.packet["in_port"]:
                    continue  # a switch does not send back unless told IN_PORT
                out = run.packet["in_port"] if port_no == IN_PORT else port_no
                left = {k: v for k, v in run.packet.items() if k != "in_port"}
                run = replace(run, sent=[*run.sent, Sent(out, left, run.queue_id)])
            case _:
                raise AssertionError(f"unknown action {action}")
    if flow.metadata is not None:
        value, mask = flow.metadata
        run = replace(run, metadata=(run.metadata & ~mask) | (value & mask))
    return run


def _matches(flow: Flow, packet: Packet, metadata: int) -> bool:
    return all(_field_matches(name, wanted, packet, metadata) for name, wanted in flow.match)


def _field_matches(name: str, wanted: int | str, packet: Packet, metadata: int) -> bool:
    if name in ("metadata", "vlan_vid"):
        value, mask = (int(part, 0) for part in str(wanted).split("/"))
        return (metadata if name == "metadata" else packet.get(name, 0)) & mask == value
    if name not in packet:
        return False
    if name.startswith(("ipv4_", "ipv6_")):
        first, _, mask_text = str(wanted).partition("/")
        found = ipaddress.ip_address(packet[name])
        bits = int(ipaddress.ip_address(mask_text)) if mask_text else (1 << found.max_prefixlen) - 1
        return int(found) & bits == int(ipaddress.ip_address(first))
    return bool(packet[name] == wanted)
