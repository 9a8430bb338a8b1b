"""Which slices lived when, and what their life costs the other figures. Pure.

`life`: the RIC's lines, one a change (see controller/ric/slices.py), oldest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.contracts.inventory import Inventory

Line = Mapping[str, Any]


def slices_lived(inventory: Inventory, life: Sequence[Line], t0_ns: int) -> list[dict[str, Any]]:
    """Every slice that lived in the run; times in seconds of the scenario's clock.

    `created_at_s` None: it was there from the start; `terminated_at_s` None: to the end.
    """
    found = [
        _born(s.slice_id, s.s_nssai.model_dump(), s.name, None, None) for s in inventory.slices
    ]
    living = {item["slice_id"]: item for item in found}
    for line in life:
        at_s = round((line["at_ns"] - t0_ns) / 1e9, 3)
        slice_id, elapsed_ms = line["slice_id"], line["elapsed_ms"]
        if line["kind"] == "slice.create":
            born = _born(slice_id, line["s_nssai"], line["name"], at_s, elapsed_ms)
            living[slice_id] = born
            found.append(born)
        elif slice_id in living:
            living[slice_id]["changes"] += line["kind"] != "slice.terminate"
            if line["kind"] == "slice.terminate":
                ended = {"terminated_at_s": at_s, "terminate_ms": elapsed_ms}
                living.pop(slice_id).update(ended)
    return found


def _born(
    slice_id: int, s_nssai: Mapping[str, Any], name: str, at_s: float | None, ms: float | None
) -> dict[str, Any]:
    return {
        "slice_id": slice_id,
        "s_nssai": dict(s_nssai),
        "name": name,
        "created_at_s": at_s,
        "create_ms": ms,
        "changes": 0,
        "terminated_at_s": None,
        "terminate_ms": None,
    }


def ended_slices(life: Iterable[Line]) -> frozenset[int]:
    """Ids of slices that ended: their counters went with their rules, so no balance exists."""
    return frozenset(line["slice_id"] for line in life if line["kind"] == "slice.terminate")
