"""Second paths: where an access point's wire to the core fails, its packets take a detour.

An access point with links to other access points has one detour: the shortest path
to the core that does not use its own wire.  Both ends of the wire hold a
fast-failover group (primary, detour, and the primary once more whatever is watched,
for the moment in which nothing seems alive), so no controller is asked when it fails.

No loops: the end that takes the detour writes a label (access point and direction)
into the destination MAC, which between switches is the gateway's and tells
nothing.  Switches on the way follow label and in-port only, never fail over a
labelled packet again, and the far end treats it as come from the access point's
own wire.  Bounce-back: at the core a packet may have come from the very port that
the detour leaves by, and Open vSwitch never sends back where a packet came from; for
these the core has a second group whose detour says so (IN_PORT).
docs/decisions/0035-detours-by-label.md has the cases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from controller.contracts.addressing import COLLECTOR_IP
from controller.contracts.inventory import Cell, PortRole, SwitchRole
from controller.forwarding import down_to_air
from controller.network_view import Network
from controller.pipeline import (
    EGRESS,
    FORWARD,
    IPV4,
    MatchFields,
    egress,
    rule,
)
from controller.switch_program import IN_PORT, OWNER, Action, Bucket, Flow, Group, GroupKind

ALWAYS_GROUP_ID = OWNER << 16
"""Never used, always alive: Open vSwitch refuses a fast-failover bucket that watches nothing."""
TOWARDS_CORE_GROUP_ID = OWNER << 16 | 1
"""Groups have no cookie: the owner stands in the upper half of their ids."""
_UP, _DOWN = 0, 1


@dataclass(frozen=True)
class Hop:
    """Leaving `switch` by `out_port`, entering `peer` by `in_port`."""

    switch: str
    out_port: int
    peer: str
    in_port: int

    @property
    def back(self) -> Hop:
        return Hop(self.peer, self.in_port, self.switch, self.out_port)


@dataclass(frozen=True)
class Detour:
    """`up`: hops from the access point to the core beside its own wire, at least one."""

    cell: Cell
    up: tuple[Hop, ...]

    @property
    def down(self) -> tuple[Hop, ...]:
        return tuple(hop.back for hop in reversed(self.up))


@lru_cache(maxsize=4)
def detours(network: Network) -> Mapping[str, Detour]:
    """Access point's switch -> its detour; only those that have one."""
    hops = _hops(network)
    found = {}
    for switch, cells in network.cells_of_switch.items():
        if cells and network.switches[switch].role is SwitchRole.ACCESS_POINT:
            own = cells[0].up_port
            path = _shortest(hops, switch, network.core, without=(switch, own))
            if path:
                found[switch] = Detour(cells[0], path)
    return found


def _hops(network: Network) -> list[Hop]:
    """All wires between switches but the air's, both ways; the n-th port of a to b is joined to
    the n-th port of b to a."""
    between: dict[tuple[str, str], list[int]] = {}
    for switch, ports in network.ports.items():
        for port in ports:
            if port.role is PortRole.INFRASTRUCTURE:
                between.setdefault((switch, port.peer), []).append(port.port_no)
    air = {n for n, s in network.switches.items() if s.role is SwitchRole.AIR}
    return [
        Hop(a, out_port, b, in_port)
        for (a, b), out_ports in between.items()
        if not {a, b} & air
        for out_port, in_port in zip(out_ports, between.get((b, a), []), strict=True)
    ]


def _shortest(
    hops: list[Hop], start: str, end: str, without: tuple[str, int]
) -> tuple[Hop, ...] | None:
    """Fewest hops; among equals the one whose links stand first in the scenario."""
    waiting: deque[tuple[Hop, ...]] = deque([()])
    seen = {start}
    while waiting:
        path = waiting.popleft()
        at = path[-1].peer if path else start
        if at == end:
            return path
        for hop in hops:
            if hop.switch == at and hop.peer not in seen and (at, hop.out_port) != without:
                if hop.peer != end:
                    seen.add(hop.peer)
                waiting.append((*path, hop))
    return None


def label(network: Network, switch: str, direction: int) -> str:
    """Locally administered, and no host's or port's."""
    dpid = network.switches[switch].dpid
    return f"02:fe:{direction:02x}:00:{dpid >> 8 & 0xFF:02x}:{dpid & 0xFF:02x}"


# -- groups --------------------------------------------------------------------


def groups(network: Network, switch: str) -> dict[int, Group]:
    """All fast-failover groups of a switch, by id."""
    found = []
    for origin, detour in detours(network).items():
        if switch == origin:
            own, away = detour.cell.up_port, detour.up[0].out_port
            mark = label(network, origin, _UP)
            found.append(_group(TOWARDS_CORE_GROUP_ID, own, away, away, mark))
        if switch == network.core:
            own, away = detour.cell.core_port, detour.down[0].out_port
            mark = label(network, origin, _DOWN)
            found.append(_group(core_group_id(network, origin), own, away, away, mark))
            bounced = core_group_id(network, origin, bounced=True)
            found.append(_group(bounced, own, away, IN_PORT, mark))
    if found:
        found.insert(0, Group(ALWAYS_GROUP_ID, GroupKind.INDIRECT, (Bucket(()),)))
    return {group.group_id: group for group in found}


def core_group_id(network: Network, origin: str, bounced: bool = False) -> int:
    return OWNER << 16 | 2 * network.switches[origin].dpid + bounced


def _group(group_id: int, own: int, away: int, away_output: int, mark: str) -> Group:
    primary: Action = ("output", own)
    return Group(
        group_id,
        GroupKind.FAST_FAILOVER,
        (
            Bucket((primary,), watch_port=own),
            Bucket((("set_field", "eth_dst", mark), ("output", away_output)), watch_port=away),
            Bucket((primary,), watch_group=ALWAYS_GROUP_ID),
        ),
    )


def output_to(network: Network, switch: str, port_no: int) -> Action:
    """What sends out by a port: its group where there is one, else the port itself."""
    for origin, detour in detours(network).items():
        if switch == origin and port_no == detour.cell.up_port:
            return "group", TOWARDS_CORE_GROUP_ID
        if switch == network.core and port_no == detour.cell.core_port:
            return "group", core_group_id(network, origin)
    return "output", port_no


def exceptions(network: Network, switch: str, port_no: int) -> Mapping[int, Action]:
    """Where a packet came in -> what sends it out by `port_no` then, other than `output_to`.

    Packets on a detour never fail over again; packets that came by the port the detour
    leaves by are sent back.
    """
    found: dict[int, Action] = {}
    for origin, detour in detours(network).items():
        if switch == network.core and port_no == detour.cell.core_port:
            away = detour.down[0].out_port
            found[away] = ("group", core_group_id(network, origin, bounced=True))
        for before, after in zip(detour.up, detour.up[1:], strict=False):
            if after.switch == switch and after.out_port == port_no:
                found[before.in_port] = ("output", port_no)
    return found


# -- rules ---------------------------------------------------------------------


def detour_rules(network: Network, switch: str) -> Iterator[Flow]:
    """Table 4: what carries labelled packets along, and takes them in at the end."""
    for origin, detour in detours(network).items():
        up, down = label(network, origin, _UP), label(network, origin, _DOWN)
        for before, after in zip(detour.up, detour.up[1:], strict=False):
            if after.switch == switch:
                # Below the rules of local users and servers: they are reached directly.
                yield _along(250, before.in_port, up, after.out_port)
                yield from _collector(network, detour, switch, before.in_port, up)
        for before, after in zip(detour.down, detour.down[1:], strict=False):
            if after.switch == switch:
                yield _along(500, before.in_port, down, after.out_port)
        if switch == network.core:
            yield from _collector(network, detour, switch, detour.up[-1].in_port, up)
        if switch == origin:
            yield from _taken_in(network, detour, down)


def _along(priority: int, in_port: int, mark: str, out_port: int) -> Flow:
    match: MatchFields = {"in_port": in_port, "eth_dst": mark}
    return rule(FORWARD, priority, match, write=egress(out_port), goto=EGRESS)


def _collector(
    network: Network, detour: Detour, switch: str, in_port: int, mark: str
) -> Iterator[Flow]:
    """The anycast address still means the edge of the cell that the packet came from."""
    edge = network.hosts[detour.cell.edge]
    if edge.switch == switch:
        port_no = edge.port_no
    elif switch == network.core:
        port_no = network.cells_of_switch[edge.switch][0].core_port
    else:
        return
    yield _to_collector(in_port, mark, port_no)


def _to_collector(in_port: int, mark: str, port_no: int) -> Flow:
    match: MatchFields = {
        "in_port": in_port,
        "eth_dst": mark,
        "eth_type": IPV4,
        "ipv4_dst": COLLECTOR_IP,
    }
    return rule(FORWARD, 450, match, write=egress(port_no), goto=EGRESS)


def _taken_in(network: Network, detour: Detour, mark: str) -> Iterator[Flow]:
    """At the access point: like what comes from the core by its own wire, and never back up."""
    cell, in_port = detour.cell, detour.down[-1].in_port
    elsewhere = sorted(
        {
            c.edge
            for c in network.cells.values()
            if c.switch != cell.switch and network.hosts[c.edge].switch == cell.switch
        }
    )
    for edge in elsewhere:
        yield _to_collector(in_port, mark, network.hosts[edge].port_no)
    yield from down_to_air(network, cell, in_port)
