"""What senders and receivers start from: the run's scenario and inventory."""

from __future__ import annotations

import orjson

from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from topologies.scenario.schema import Scenario


def read_inputs(run: RunFolder) -> tuple[Scenario, Inventory]:
    """OSError when a file is missing, ValueError when one is not what it should be."""
    started = orjson.loads(run.scenario.read_bytes())
    if not isinstance(started, dict) or "scenario" not in started:
        raise ValueError(f"{run.scenario} has no key 'scenario'")
    return Scenario.model_validate(started["scenario"]), Inventory.load(run.inventory)
