"""What one switch carries, as plain values: flows, meters, and the meaning of cookies.

Shared by the pure rules, the differ and the thin shells; knows neither Ryu nor
the network.  The JSON forms here are what travels between the RIC and Ryu.

Cookie, 64 bits: owner (16, always 0x486F) | kind (8) | slice_id (8, 0xFF when
the rule is no slice's) | generation (32: the change that last wrote the flow).
Rules are compared without generation; reading back one change filters by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from controller.contracts.slices import TrafficClass

OWNER = 0x486F
DEBUG_OWNER = 0xDEB0
"""Of flows that somebody adds on purpose, to look at something: they are left alone."""
NO_SLICE = 0xFF
OWNER_COOKIE = OWNER << 48
OWNER_MASK = 0xFFFF << 48
KIND_MASK = 0xFF << 40
KIND_AND_SLICE_MASK = 0xFFFF_FFFF << 32
GENERATION_MASK = 0xFFFF_FFFF


class Kind(IntEnum):
    """What a rule's counter means."""

    PATH = 1
    """Carries packets; its counter is nobody's measurement."""
    ENTER = 2
    """A slice's packets entering the network, once each (edge ports)."""
    DELIVER = 3
    """A slice's packets leaving to a user or server, once each."""
    VIOLATION = 4
    """Sender and receiver are not in one slice: dropped."""
    SECURITY = 5
    """Not the port's own MAC or address, ARP for anybody but the gateway, neighbour
    discovery: dropped."""
    UNSUPPORTED = 6
    """Tagged frames, multicast and whatever else the pipeline does not carry: dropped."""
    MISS = 7
    """No rule for it, or a path that leads back where it came from: dropped."""
    USER = 8
    """One user's downlink through one cell, counted on the air; comes and goes with handovers."""


COUNTED = frozenset(Kind) - {Kind.PATH, Kind.USER}


def cookie_of(kind: Kind, slice_id: int = NO_SLICE) -> int:
    """Cookie of generation 0."""
    return OWNER_COOKIE | kind << 40 | slice_id << 32


def kind_and_slice(cookie: int) -> tuple[Kind, int]:
    return Kind(cookie >> 40 & 0xFF), cookie >> 32 & 0xFF


Match = tuple[tuple[str, int | str], ...]
"""Sorted (field, value) pairs; a masked value is the text "value/mask"."""
Action = tuple[str | int, ...]
"""("set_field", field, value) | ("set_queue", queue_id) | ("output", port_no) |
("group", group_id)."""
FlowKey = tuple[int, int, Match]

IN_PORT = 0xFFFF_FFF8
"""OFPP_IN_PORT: a switch sends back to where a packet came from only when told so."""


@dataclass(frozen=True)
class Flow:
    """One flow entry. Instructions run in OpenFlow's order: meter, actions, metadata, goto."""

    table_id: int
    priority: int
    match: Match
    cookie: int
    actions: tuple[Action, ...] = ()
    metadata: tuple[int, int] | None = None
    """(value, mask) to write."""
    meter_id: int | None = None
    goto: int | None = None

    @property
    def key(self) -> FlowKey:
        return self.table_id, self.priority, self.match

    def as_json(self) -> dict[str, Any]:
        return {
            "table_id": self.table_id,
            "priority": self.priority,
            "match": dict(self.match),
            "cookie": self.cookie,
            "actions": [list(a) for a in self.actions],
            "metadata": self.metadata and list(self.metadata),
            "meter_id": self.meter_id,
            "goto": self.goto,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Flow:
        """The flow with the cookie's generation removed, so that it compares."""
        written = document["metadata"]
        return cls(
            table_id=document["table_id"],
            priority=document["priority"],
            match=match_of(document["match"]),
            cookie=document["cookie"] & ~GENERATION_MASK,
            actions=tuple(tuple(a) for a in document["actions"]),
            metadata=None if written is None else (written[0], written[1]),
            meter_id=document["meter_id"],
            goto=document["goto"],
        )


def match_of(fields: Mapping[str, int | str]) -> Match:
    return tuple(sorted(fields.items()))


class Direction(StrEnum):
    DOWN = "down"
    """Towards users."""
    UP = "up"


@dataclass(frozen=True)
class MeterUse:
    """Whose traffic a meter limits: a (cell, slice, class, direction), or one user's."""

    cell_id: str
    slice_id: int
    traffic_class: TrafficClass | None
    direction: Direction
    ue_id: str | None = None


@dataclass(frozen=True)
class Meter:
    """One drop band in kbit/s; the burst is always set (OVS's default is a second of rate)."""

    meter_id: int
    rate_kbps: int
    burst_kbit: int
    use: MeterUse | None = field(default=None, compare=False)
    """None when the meter was read from a switch."""

    def as_json(self) -> dict[str, int]:
        return {
            "meter_id": self.meter_id,
            "rate_kbps": self.rate_kbps,
            "burst_kbit": self.burst_kbit,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, int]) -> Meter:
        return cls(document["meter_id"], document["rate_kbps"], document["burst_kbit"])


@dataclass(frozen=True)
class Bucket:
    """Alive while what it watches is; one that watches nothing is always."""

    actions: tuple[Action, ...]
    watch_port: int | None = None
    watch_group: int | None = None


class GroupKind(StrEnum):
    FAST_FAILOVER = "fast_failover"
    """The first live bucket is taken; each must watch something."""
    INDIRECT = "indirect"
    """One bucket."""


@dataclass(frozen=True)
class Group:
    group_id: int
    kind: GroupKind
    buckets: tuple[Bucket, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "group_id": self.group_id,
            "kind": self.kind.value,
            "buckets": [
                {
                    "actions": [list(a) for a in b.actions],
                    "watch_port": b.watch_port,
                    "watch_group": b.watch_group,
                }
                for b in self.buckets
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Group:
        buckets = (
            Bucket(tuple(tuple(a) for a in b["actions"]), b["watch_port"], b["watch_group"])
            for b in document["buckets"]
        )
        return cls(document["group_id"], GroupKind(document["kind"]), tuple(buckets))


@dataclass(frozen=True)
class SwitchProgram:
    """Everything a switch should carry (or does carry), by key."""

    switch: str
    flows: Mapping[FlowKey, Flow]
    meters: Mapping[int, Meter]
    groups: Mapping[int, Group] = field(default_factory=dict)

    def counted_cookies(self) -> list[int]:
        """Distinct cookies whose packets somebody counts, sorted."""
        cookies = {f.cookie for f in self.flows.values()}
        return sorted(c for c in cookies if kind_and_slice(c)[0] in COUNTED)
