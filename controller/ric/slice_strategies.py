"""Which strategy decides for a slice: its twin's `strategy` and `use_case` attributes.

Composed when a twin is read: from the newest applied reservation of the slice and the
descriptor of the xApp that asked for it, else from the run's policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.contracts.decisions import DecisionRecord
from controller.contracts.inventory import Inventory

Document = dict[str, Any]

BY_POLICY = {
    "static": "the scenario's fixed split",
    "none": "no reservation",
}
OPERATOR = "operator, by hand"
HANDOVER = "event A3 at the local controllers"


@dataclass(frozen=True)
class Decided:
    """The newest applied reservation of a slice."""

    xapp: str
    decision_id: str
    at_ns: int


class StrategyBook:
    """Who decided last for each slice; told of every applied reservation."""

    def __init__(self, inventory: Inventory) -> None:
        self._started_as = inventory.policy
        self._decided: dict[int, Decided] = {}

    def note(self, record: DecisionRecord, slice_ids: Iterable[int], at_ns: int) -> None:
        for slice_id in slice_ids:
            self._decided[slice_id] = Decided(record.xapp, record.decision_id, at_ns)

    def methods(self, slice_id: int, xapps: Sequence[Mapping[str, Any]]) -> Document:
        """What decides for the slice, by what is decided."""
        decided = self._decided.get(slice_id)
        if decided is None:
            value = {"method": BY_POLICY.get(self._started_as, "none has decided yet")}
        else:
            value = method_of(decided.xapp, xapps)
        return {"reservation": value, "handover": {"method": HANDOVER}}

    def attributes(
        self, slice_id: int, xapps: Sequence[Mapping[str, Any]], started_at_ns: int, now_ns: int
    ) -> dict[str, Document]:
        """`strategy.reservation` and `strategy.handover`; `xapps`: documents of all deployed."""
        methods, decided = self.methods(slice_id, xapps), self._decided.get(slice_id)
        at_ns, source = started_at_ns, "scenario"
        if decided is not None:
            at_ns, source = decided.at_ns, f"decision {decided.decision_id}"
        return {
            "strategy.reservation": _attribute(methods["reservation"], at_ns, now_ns, source),
            "strategy.handover": _attribute(methods["handover"], started_at_ns, now_ns, "testbed"),
        }


def method_of(name: str, xapps: Sequence[Mapping[str, Any]]) -> Document:
    """The xApp as it is deployed: name, version, model hashes, what chooses its algorithm."""
    if name == "operator":
        return {"method": OPERATOR}
    for xapp in xapps:
        if xapp["xapp_name"] == name:
            return {
                "method": name,
                "version": xapp["version"],
                "models": xapp["models"],
                "config": xapp["config"],
            }
    return {"method": name}  # a part of the testbed, or undeployed since


def uav_attributes(
    inventory: Inventory, slice_id: int, started_at_ns: int, now_ns: int
) -> dict[str, Document]:
    """Where flying access points that carry the slice are planned to be, by cell."""
    slice_ = inventory.slice(slice_id)
    return {
        f"use_case.uav_position_m.{cell.cell_id}": _attribute(
            list(cell.position_m), started_at_ns, now_ns, "scenario", "m"
        )
        for cell in inventory.cells
        if cell.kind == "uav" and slice_.covers(cell.cell_id)
    }


def _attribute(
    value: Any, at_ns: int, now_ns: int, source: str, unit: str | None = None
) -> Document:
    return {
        "value": value,
        "unit": unit,
        "measured_at": at_ns,
        "age_ms": (now_ns - at_ns) / 1e6,
        "period_ms": None,
        "source": source,
    }
