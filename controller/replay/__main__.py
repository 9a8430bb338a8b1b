"""`python -m controller.replay RECORDING --out DIR [--xapp DIR]... [--speed N] [--port P]`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from controller.replay.process import Wanted, replay


def main() -> int:
    parser = argparse.ArgumentParser(prog="replay")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--xapp", action="append", default=[])
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    return replay(
        Wanted(options.recording, options.out, tuple(options.xapp), options.speed, options.port)
    )


if __name__ == "__main__":
    sys.exit(main())
