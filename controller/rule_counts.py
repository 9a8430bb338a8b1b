"""How many rules and meters a network's switches carry, without a switch. Pure, and a command:

    python -m controller.rule_counts INVENTORY.json...

prints a JSON list, one object a file: switch -> {"flows", "meters"}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from controller.contracts.inventory import Inventory
from controller.network_state import initial_state
from controller.network_view import network_of
from controller.rules import compile_network


def rule_counts(inventory: Inventory) -> dict[str, dict[str, int]]:
    """By switch, as installed at the start. Raises `NetworkDescriptionError`."""
    programs = compile_network(network_of(inventory), initial_state(inventory))
    return {
        name: {"flows": len(program.flows), "meters": len(program.meters)}
        for name, program in programs.items()
    }


if __name__ == "__main__":
    print(json.dumps([rule_counts(Inventory.load(Path(path))) for path in sys.argv[1:]]))
