"""The local controller's process: `python -m controller.local RUN_FOLDER EDGE`.

Started in the edge server's network namespace; ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

import uvloop

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.local.service import LocalController

NICENESS = -10
"""A report must be answered within a millisecond, also beside busy senders."""


async def serve(run: RunFolder, edge: str) -> None:
    controller = LocalController(run, Inventory.load(run.inventory), edge)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    controller.start()
    path = run.local_controller_socket(edge)
    server = await rpc.serve(path, controller.operations())
    await stopped.wait()
    server.close()
    controller.close()
    path.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Exit status 2 on a wrong call, 1 when it cannot start, one line each."""
    if len(arguments) != 2:
        print("usage: python -m controller.local RUN_FOLDER EDGE", file=sys.stderr)
        return 2
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        uvloop.run(serve(RunFolder(Path(arguments[0])), arguments[1]))
    except (OSError, ValueError) as error:
        print(f"local controller: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
