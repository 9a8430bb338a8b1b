"""Which slices lived when, from the RIC's lines."""

from __future__ import annotations

from typing import Any

from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory
from topologies.results.evidence import reservation_changes
from topologies.results.slice_life import ended_slices, slices_lived

INVENTORY = planned_inventory(two_cells())
T0_NS = 1_000_000_000_000


def line(kind: str, at_s: float, slice_id: int = 3, **fields: Any) -> dict[str, Any]:
    return {
        "kind": f"slice.{kind}",
        "at_ns": T0_NS + int(at_s * 1e9),
        "slice_id": slice_id,
        "s_nssai": {"sst": 1, "sd": "0000aa"},
        "name": "gaming",
        "elapsed_ms": 50.0,
        "reserved": [],
        **fields,
    }


def test_each_life_of_an_id_is_a_slice_of_its_own() -> None:
    life = [line("create", 1), line("update", 2), line("terminate", 3), line("create", 4)]
    lived = slices_lived(INVENTORY, life, T0_NS)
    assert [s["name"] for s in lived] == ["video", "control", "gaming", "gaming"]
    times = [(s["created_at_s"], s["changes"], s["terminated_at_s"]) for s in lived]
    assert times == [(None, 0, None), (None, 0, None), (1.0, 1, 3.0), (4.0, 0, None)]
    assert ended_slices(life) == {3}


def test_a_scenario_s_slice_that_ends_holds_nothing_any_more() -> None:
    life = [line("terminate", 5, slice_id=1)]
    lived = slices_lived(INVENTORY, life, T0_NS)
    assert lived[0]["terminated_at_s"] == 5.0
    changes = reservation_changes(INVENTORY, [], life)
    held = [c.min_kbps for c in changes if (c.cell_id, c.slice_id) == ("ap1", 1)]
    assert held[0] == 8000 and set(held[1:]) == {0}


def test_changes_of_created_slices_are_not_the_scenario_s() -> None:
    reserved = [{"cell_id": "ap1", "traffic_class": "elastic", "min_kbps": 500, "max_kbps": 900}]
    changes = reservation_changes(INVENTORY, [], [line("create", 1, reserved=reserved)])
    assert {c.slice_id for c in changes} == {1, 2}
