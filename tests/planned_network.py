"""The inventory a scenario would have, without building anything."""

from __future__ import annotations

from typing import Any

from controller.contracts.inventory import Inventory
from topologies.describe import as_planned
from topologies.scenario.schema import Scenario


def planned_inventory(
    document: dict[str, Any], serving_cells: dict[str, str] | None = None
) -> Inventory:
    """`serving_cells`: user -> cell; by default everybody in the first."""
    return as_planned(Scenario.model_validate(document), serving_cell=serving_cells)
