"""`python -m controller.ric RUN_FOLDER`: the RIC of a run whose inventory is written."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from controller.ric.process import run_ric
from controller.ric.switches import SwitchEnforcement


def main(arguments: list[str]) -> int:
    """Exit status 2 on a wrong call, 1 when it cannot start, one line each."""
    if len(arguments) != 1:
        print("usage: python -m controller.ric RUN_FOLDER", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run_ric(Path(arguments[0]), SwitchEnforcement)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
