"""Keeps the switches' configuration as it was built: bridges, ports, controller, queue trees.

Reads OVSDB (which costs vswitchd nothing) and compares it with the plan; a bridge
or port that somebody deleted, a second controller that somebody added, a queue
tree that somebody cleared are put back by the same transaction that made them.
Flows, groups, meters and the slices' own queues are the controller's to restore.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.contracts.inventory import Port
from topologies.bridges import controller_of
from topologies.plan import Plan

READ_CONFIGURATION = [
    "--format=json", "--columns=_uuid,name,ports,controller,fail_mode", "list", "Bridge",
    "--", "--columns=_uuid,name,qos", "list", "Port",
    "--", "--columns=_uuid,target", "list", "Controller",
    "--", "--columns=_uuid,queues", "list", "QoS",
    "--", "--columns=_uuid", "list", "Queue",
]  # fmt: skip
"""Arguments of one ovs-vsctl call; its output is what `configuration` takes."""


@dataclass(frozen=True)
class Configured:
    """One bridge as OVSDB has it; `queued`: those of its ports that have a queue tree."""

    ports: frozenset[str]
    queued: frozenset[str]
    controllers: Mapping[str, str]
    """Row -> target."""
    fail_mode: str


@dataclass(frozen=True)
class Damage:
    """What is not as planned. `words`: one line each, for people."""

    bridges: tuple[str, ...] = ()
    """To be made anew, whole: missing, or without some of their ports."""
    bare: tuple[str, ...] = ()
    """Ports whose queue tree is gone."""
    misled: tuple[str, ...] = ()
    """Bridges whose own controller or fail mode is gone."""
    rogues: tuple[tuple[str, str], ...] = ()
    """(bridge, row) of controllers beside the own one."""
    words: tuple[str, ...] = ()


def _tables(output: str) -> list[list[dict[str, Any]]]:
    return [_rows(json.loads(line)) for line in output.splitlines() if line.strip()]


def orphans(output: str) -> list[tuple[str, str]]:
    """(table, row) of queue trees that no port has any more: OVSDB keeps them for ever."""
    _, ports, _, trees, queues = _tables(output)
    used = {uuid for p in ports for uuid in _uuids(p["qos"])}
    kept = [t for t in trees if t["_uuid"][1] in used]
    held = {row[1] for t in kept for _, row in t["queues"][1]}
    lost_trees = [t["_uuid"][1] for t in trees if t["_uuid"][1] not in used]
    lost_queues = [q["_uuid"][1] for q in queues if q["_uuid"][1] not in held]
    return [("QoS", uuid) for uuid in lost_trees] + [("Queue", uuid) for uuid in lost_queues]


def configuration(output: str) -> dict[str, Configured]:
    """Bridge name -> what it has, from the output of `READ_CONFIGURATION`."""
    bridges, ports, controllers, *_ = _tables(output)
    port_of = {row["_uuid"][1]: row for row in ports}
    target_of = {row["_uuid"][1]: str(row["target"]) for row in controllers}
    found = {}
    for row in bridges:
        own = [port_of[uuid] for uuid in _uuids(row["ports"]) if uuid in port_of]
        found[row["name"]] = Configured(
            ports=frozenset(p["name"] for p in own),
            queued=frozenset(p["name"] for p in own if _uuids(p["qos"])),
            controllers={u: target_of[u] for u in _uuids(row["controller"])},
            fail_mode=str(row["fail_mode"]),
        )
    return found


def _rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["headings"], row, strict=True)) for row in table["data"]]


def _uuids(value: list[Any]) -> list[str]:
    """An OVSDB column that holds none, one or several references."""
    return [value[1]] if value[0] == "uuid" else [item[1] for item in value[1]]


def damage(plan: Plan, target: str, found: Mapping[str, Configured]) -> Damage:
    """`target`: the controller that every bridge shall have, and no other."""
    broken, bare_ports, misled, rogues, words = [], [], [], [], []
    for switch in plan.switches:
        wanted = {p.interface for p in plan.ports if p.switch == switch.name}
        queued = {
            p.interface for p in plan.ports if p.switch == switch.name and p.rate_kbps is not None
        }
        has = found.get(switch.name)
        if has is None:
            broken.append(switch.name)
            words.append(f"bridge {switch.name} was deleted")
            continue
        missing, bare = wanted - has.ports, (queued & has.ports) - has.queued
        words += [f"port {name} of {switch.name} was deleted" for name in sorted(missing)]
        if missing:
            broken.append(switch.name)
            continue
        bare_ports += sorted(bare)
        words += [f"the queue tree of {name} was cleared" for name in sorted(bare)]
        if target not in has.controllers.values() or has.fail_mode != "secure":
            misled.append(switch.name)
            words.append(f"bridge {switch.name} lost its controller or fail mode")
        for row, other in has.controllers.items():
            if other != target:
                rogues.append((switch.name, row))
                words.append(f"bridge {switch.name} was given a second controller, {other}")
    return Damage(tuple(broken), tuple(bare_ports), tuple(misled), tuple(rogues), tuple(words))


def only(plan: Plan, switches: tuple[str, ...]) -> Plan:
    """The part of the plan that makes these switches' configuration."""
    ports = [p for p in plan.ports if p.switch in switches]
    return replace(
        plan,
        switches=[s for s in plan.switches if s.name in switches],
        ports=ports,
        queue_packets={
            p.interface: plan.queue_packets[p.interface]
            for p in ports
            if p.interface in plan.queue_packets
        },
    )


class BridgeGuard:
    """`vsctl` runs ovs-vsctl; `make` builds what a (part of a) plan says, `make_queues` the queue
    trees of ports; both with their filters.  `hold` is told before bridges are made anew: which,
    and the interfaces of others that lead to them; `made` after it."""

    def __init__(
        self,
        plan: Plan,
        target: str,
        vsctl: Callable[[list[str]], str],
        make: Callable[[Plan], None],
        make_queues: Callable[[Sequence[Port]], None],
        hold: Callable[[Sequence[str], Sequence[str]], None] = lambda bridges, towards: None,
        made: Callable[[], object] = lambda: None,
    ) -> None:
        self._plan = plan
        self._target = target
        self._vsctl = vsctl
        self._make = make
        self._make_queues = make_queues
        self._hold, self._made = hold, made

    def repair(self) -> tuple[str, ...]:
        """Look once, put back what is not as planned; what it was, one line each.

        Raises `EmulationError` when Open vSwitch refuses or is gone.
        """
        found = damage(self._plan, self._target, configuration(self._vsctl(READ_CONFIGURATION)))
        if found.bridges:
            towards = [p.interface for p in self._plan.ports if p.peer in found.bridges]
            self._hold(found.bridges, towards)
            for name in found.bridges:
                self._vsctl(["--if-exists", "del-br", name])
            self._make(only(self._plan, found.bridges))
            self._made()
        if found.bare:
            self._make_queues([p for p in self._plan.ports if p.interface in found.bare])
        for name, row in found.rogues:
            self._vsctl(["remove", "Bridge", name, "controller", row])
        for name in found.misled:
            self._vsctl(controller_of(name, self._target))
        if found.bridges or found.bare:
            for table, row in orphans(self._vsctl(READ_CONFIGURATION)):
                self._vsctl(["--if-exists", "destroy", table, row])
        return found.words
