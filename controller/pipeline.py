"""The OpenFlow pipeline as data: tables in order, what each may match, where it may go.

`rule` is the only way to make a flow; it refuses what is not declared here.
docs/architecture.md mirrors this file.

`forward` only decides the port (one rule per address) and writes it into the
metadata; `egress` acts on (port, slice, class).  So slice meters, `set_queue` and
delivery counters multiply with ports × pairs, never with users, and a handover,
which only changes `forward`, leaves all their counters alone.  The meter must
know the egress port because only what really goes to (or, on the air, into) a
cell counts against it: an access point also forwards its server's other traffic.

Metadata, 64 bits: DSCP = slice_id (4) ++ class (2) in bits 0-5; bit 8 set when
the packet entered at a user's or server's port; egress port in bits 16-31.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controller.contracts.slices import TrafficClass, dscp_of
from controller.errors import UndeclaredMatchError
from controller.switch_program import (
    NO_SLICE,
    Action,
    Flow,
    Kind,
    cookie_of,
    match_of,
)


class Miss(StrEnum):
    DROP = "drop and count"
    CONTINUE = "continue with the next table"


@dataclass(frozen=True)
class Table:
    """One table. `matches`: fields its rules may use; `next_tables`: where they may go."""

    table_id: int
    name: str
    purpose: str
    matches: frozenset[str]
    next_tables: tuple[int, ...]
    miss: Miss


def _fields(text: str) -> frozenset[str]:
    return frozenset(text.split())


PORT_SECURITY = Table(
    0,
    "port_security",
    "a host's port passes only its own MAC and addresses; answers ARP for the gateway",
    _fields(
        "in_port vlan_vid eth_src eth_type ipv4_src ipv4_dst ipv6_src ipv6_dst ip_proto udp_dst "
        "icmpv6_type arp_op arp_sha arp_spa arp_tpa"
    ),
    (1,),
    Miss.DROP,
)
CLASSIFY = Table(
    1,
    "classify",
    "at the edge by service address, else the slice's default class; between switches by DSCP",
    _fields("metadata eth_type ipv4_src ipv4_dst ipv6_src ipv6_dst ip_dscp"),
    (2,),
    Miss.DROP,
)
ISOLATION = Table(
    2,
    "isolation",
    "sender and receiver both in the slice's prefix, else a violation",
    _fields("metadata eth_type ipv4_src ipv4_dst ipv6_src ipv6_dst"),
    (3,),
    Miss.DROP,
)
USER_METER = Table(
    3,
    "user_meter",
    "a user's share of a slice, where the slice limits users",
    _fields("in_port metadata eth_type ipv4_src ipv4_dst ipv6_src ipv6_dst"),
    (4,),
    Miss.CONTINUE,
)
FORWARD = Table(
    4,
    "forward",
    "destination (on the air: serving cell) to egress port; detours by their label",
    _fields("in_port metadata eth_dst eth_type ipv4_src ipv4_dst ipv6_src ipv6_dst"),
    (5,),
    Miss.DROP,
)
EGRESS = Table(
    5,
    "egress",
    "meter of (cell, slice, class), queue, last hop's MAC addresses, output",
    _fields("in_port metadata"),
    (),
    Miss.DROP,
)
TABLES = (PORT_SECURITY, CLASSIFY, ISOLATION, USER_METER, FORWARD, EGRESS)

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD

# -- metadata ------------------------------------------------------------------

DSCP_MASK = 0x3F
SLICE_MASK = 0x3C
EDGE_MASK = 0x100
EGRESS_SHIFT = 16
EGRESS_MASK = 0xFFFF << EGRESS_SHIFT

MatchFields = dict[str, int | str]
Register = tuple[int, int]
"""(value, mask) of metadata bits."""


def pair(slice_id: int, traffic_class: TrafficClass) -> Register:
    return dscp_of(slice_id, traffic_class), DSCP_MASK


def of_slice(slice_id: int) -> Register:
    return slice_id << 2, SLICE_MASK


def from_edge(entered_here: bool) -> Register:
    return (EDGE_MASK if entered_here else 0), EDGE_MASK


def egress(port_no: int) -> Register:
    return port_no << EGRESS_SHIFT, EGRESS_MASK


def both(*registers: Register) -> Register:
    value = mask = 0
    for v, m in registers:
        value, mask = value | v, mask | m
    return value, mask


def matched(register: Register) -> str:
    """As a match value."""
    return f"{register[0]:#x}/{register[1]:#x}"


# -- rules ---------------------------------------------------------------------


def rule(
    table: Table,
    priority: int,
    match: Mapping[str, int | str],
    *,
    kind: Kind = Kind.PATH,
    slice_id: int = NO_SLICE,
    actions: Sequence[Action] = (),
    write: Register | None = None,
    meter_id: int | None = None,
    goto: Table | None = None,
) -> Flow:
    """A flow of `table`. Raises `UndeclaredMatchError` for what the table does not declare."""
    if not match.keys() <= table.matches:
        undeclared = match.keys() - table.matches
        raise UndeclaredMatchError(
            f"table {table.table_id} ({table.name}) does not match on "
            f"{', '.join(sorted(undeclared))}; declared: {', '.join(sorted(table.matches))}"
        )
    if goto is not None and goto.table_id not in table.next_tables:
        raise UndeclaredMatchError(
            f"table {table.table_id} ({table.name}) does not go to {goto.name}"
        )
    return Flow(
        table_id=table.table_id,
        priority=priority,
        match=match_of(match),
        cookie=cookie_of(kind, slice_id),
        actions=tuple(actions),
        metadata=write,
        meter_id=meter_id,
        goto=None if goto is None else goto.table_id,
    )


def miss_rules() -> list[Flow]:
    """One rule of priority 0 per table: what becomes of a packet no other rule wants."""
    return [
        rule(table, 0, {}, kind=Kind.MISS)
        if table.miss is Miss.DROP
        else rule(table, 0, {}, goto=TABLES[table.next_tables[0]])
        for table in TABLES
    ]
