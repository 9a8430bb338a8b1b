"""`python -m controller.ric RUN_FOLDER`: the RIC of a run whose inventory is written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.enforcement import Enforcer
from controller.ric.process import run_ric


class SwitchEnforcement(Enforcer):
    """`Enforcing` over Ryu and OVSDB."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        super().__init__(inventory, run)

    async def switch_counters(self) -> Mapping[str, Any]:
        """`Counters.as_json`, once vswitchd has credited its flows."""
        return (await self.counters(settle=True)).as_json()


def main(arguments: list[str]) -> int:
    """Exit status 2 on a wrong call, 1 when it cannot start, one line each."""
    if len(arguments) != 1:
        print("usage: python -m controller.ric RUN_FOLDER", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run_ric(Path(arguments[0]), SwitchEnforcement)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
