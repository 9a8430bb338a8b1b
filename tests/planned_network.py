"""The inventory a scenario would have, without building anything."""

from __future__ import annotations

from typing import Any

from controller.contracts.inventory import Inventory
from topologies.describe import describe
from topologies.plan import plan_network
from topologies.scenario.schema import Scenario


def planned_inventory(
    document: dict[str, Any], serving_cells: dict[str, str] | None = None
) -> Inventory:
    """`serving_cells`: user -> cell; by default everybody in the first."""
    scenario = Scenario.model_validate(document)
    plan = plan_network(scenario)
    first = scenario.access_points[0].name
    cells = {user.name: first for user in scenario.users} | (serving_cells or {})
    pids = {host.name: 1 for host in plan.hosts}
    return describe(scenario, plan, "planned", "holon-planned", "xapps", pids, cells)
