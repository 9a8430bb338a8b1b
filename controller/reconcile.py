"""The difference between what a switch carries and what it should carry. Pure.

A switch is never wiped: after a reconnect, a restart of Ryu or of the RIC only
the difference is sent, and traffic of unchanged rules never notices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.switch_program import (
    DEBUG_OWNER,
    OWNER,
    Flow,
    Group,
    Meter,
    SwitchProgram,
    kind_and_slice,
)


@dataclass(frozen=True)
class Change:
    """What to send to one switch, in this order: meters (add, modify); groups and flows in one
    bundle; meters (delete)."""

    switch: str
    meters_add: tuple[Meter, ...] = ()
    meters_modify: tuple[Meter, ...] = ()
    flows_add: tuple[Flow, ...] = ()
    flows_replace: tuple[Flow, ...] = ()
    """Same table, priority and match as before, other instructions or cookie."""
    flows_delete: tuple[Flow, ...] = ()
    meters_delete: tuple[Meter, ...] = ()
    groups_add: tuple[Group, ...] = ()
    groups_modify: tuple[Group, ...] = ()
    groups_delete: tuple[Group, ...] = ()
    aliens_delete: tuple[int, ...] = ()
    """Cookies, all 64 bits: every flow that carries one goes."""

    @property
    def touches_flows(self) -> bool:
        """Or groups: what goes into the bundle."""
        return bool(
            self.flows_add
            or self.flows_replace
            or self.flows_delete
            or self.groups_add
            or self.groups_modify
            or self.groups_delete
            or self.aliens_delete
        )

    @property
    def is_empty(self) -> bool:
        return not (
            self.touches_flows or self.meters_add or self.meters_modify or self.meters_delete
        )

    def in_order(self) -> tuple[Change, Change, Change]:
        """Meters that come or change; flows; meters that go: what each needs comes before it."""
        return (
            Change(self.switch, self.meters_add, self.meters_modify),
            Change(
                self.switch,
                flows_add=self.flows_add,
                flows_replace=self.flows_replace,
                flows_delete=self.flows_delete,
            ),
            Change(self.switch, meters_delete=self.meters_delete),
        )

    def as_json(self) -> dict[str, Any]:
        """The form in which Ryu takes it."""
        return {
            "meters_add": [m.as_json() for m in self.meters_add],
            "meters_modify": [m.as_json() for m in self.meters_modify],
            "flows_add": [f.as_json() for f in (*self.flows_add, *self.flows_replace)],
            "flows_delete": [f.as_json() for f in self.flows_delete],
            "meters_delete": [m.as_json() for m in self.meters_delete],
            "groups_add": [g.as_json() for g in self.groups_add],
            "groups_modify": [g.as_json() for g in self.groups_modify],
            "groups_delete": [g.as_json() for g in self.groups_delete],
            "aliens_delete": list(self.aliens_delete),
        }

    def describe(self) -> dict[str, Any]:
        """For people and audit: flows with their kind in words, meters with their use."""
        return {
            "flows_added": [_flow_words(f) for f in self.flows_add],
            "flows_replaced": [_flow_words(f) for f in self.flows_replace],
            "flows_deleted": [_flow_words(f) for f in self.flows_delete],
            "meters_added": [_meter_words(m) for m in self.meters_add],
            "meters_modified": [_meter_words(m) for m in self.meters_modify],
            "meters_deleted": [_meter_words(m) for m in self.meters_delete],
            "groups_added": [g.as_json() for g in self.groups_add],
            "groups_modified": [g.as_json() for g in self.groups_modify],
            "groups_deleted": [g.as_json() for g in self.groups_delete],
        }

    @staticmethod
    def diff(changes: Iterable[Change], queues: Mapping[str, Any]) -> dict[str, Any]:
        """{flows: {switch: ...}, meters: {switch: ...}, queues}, and groups where some change;
        nothing where nothing changes."""
        found: dict[str, dict[str, Any]] = {"flows": {}, "meters": {}, "queues": dict(queues)}
        for change in changes:
            for name, items in change.describe().items():
                if items:
                    section = found.setdefault(name.partition("_")[0], {})
                    section.setdefault(change.switch, {})[name] = items
        return found

    def words(self) -> str:
        """One line for a confirmation's detail."""
        counts = {
            "flows added": len(self.flows_add),
            "flows replaced": len(self.flows_replace),
            "flows deleted": len(self.flows_delete),
            "meters added": len(self.meters_add),
            "meters modified": len(self.meters_modify),
            "meters deleted": len(self.meters_delete),
            "groups added": len(self.groups_add),
            "groups modified": len(self.groups_modify),
            "groups deleted": len(self.groups_delete),
            "alien cookies removed": len(self.aliens_delete),
        }
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n) or "nothing to change"


def difference(installed: SwitchProgram, intended: SwitchProgram) -> Change:
    """What turns `installed` into `intended`."""
    have, want = installed.flows, intended.flows
    had, wanted = installed.meters, intended.meters
    held, shall = installed.groups, intended.groups
    return Change(
        switch=intended.switch,
        meters_add=tuple(m for i, m in wanted.items() if i not in had),
        meters_modify=tuple(m for i, m in wanted.items() if i in had and had[i] != m),
        flows_add=tuple(f for k, f in want.items() if k not in have),
        flows_replace=tuple(f for k, f in want.items() if k in have and have[k] != f),
        flows_delete=tuple(f for k, f in have.items() if k not in want),
        meters_delete=tuple(m for i, m in had.items() if i not in wanted),
        groups_add=tuple(g for i, g in shall.items() if i not in held),
        groups_modify=tuple(g for i, g in shall.items() if i in held and held[i] != g),
        groups_delete=tuple(g for i, g in held.items() if i not in shall),
    )


@dataclass(frozen=True)
class Strangers:
    """Flows of a switch that are not ours: cookies of the alien ones, and how many others carry
    the cookie of debugging (docs/decisions/0051)."""

    alien_cookies: tuple[int, ...] = ()
    debug_flows: int = 0


def installed_program(switch: str, document: Mapping[str, Any]) -> tuple[SwitchProgram, Strangers]:
    """What Ryu read from a switch: ours, and what is somebody else's."""
    ours, strangers = _split(document["flows"])
    meters = (Meter.from_json(m) for m in document["meters"])
    groups = (Group.from_json(g) for g in document["groups"] if g["group_id"] >> 16 == OWNER)
    program = SwitchProgram(
        switch,
        {f.key: f for f in ours},
        {m.meter_id: m for m in meters},
        {g.group_id: g for g in groups},
    )
    return program, strangers


def _split(flows: Iterable[Mapping[str, Any]]) -> tuple[list[Flow], Strangers]:
    ours, aliens, debug_flows = [], set(), 0
    for document in flows:
        owner = document["cookie"] >> 48
        if owner == OWNER:
            ours.append(Flow.from_json(document))
        elif owner == DEBUG_OWNER:
            debug_flows += 1
        else:
            aliens.add(document["cookie"])
    return ours, Strangers(tuple(sorted(aliens)), debug_flows)


def _flow_words(flow: Flow) -> dict[str, Any]:
    kind, slice_id = kind_and_slice(flow.cookie)
    return {**flow.as_json(), "kind": kind.name.lower(), "slice_id": slice_id}


def _meter_words(meter: Meter) -> dict[str, Any]:
    use = meter.use
    if use is None:
        return dict(meter.as_json())
    return {
        **meter.as_json(),
        "cell_id": use.cell_id,
        "slice_id": use.slice_id,
        "traffic_class": use.traffic_class,
        "direction": use.direction,
        "ue_id": use.ue_id,
    }
