"""What an xApp's folder holds, checked by the RIC's own rules before anything is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from topologies.checkout import environment_of_rooms
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused


def checked(folder: Path) -> str:
    """Words about a descriptor whose model files are all there; else `CommandRefused`.

    In a process of its own, because this room imports nothing of the controller's.
    """
    checker = [sys.executable, "-P", "-m", "controller.ric.validate", str(folder.resolve())]
    with terminal.signs_of_life(f"checking {folder}"):
        done = subprocess.run(checker, capture_output=True, text=True, env=environment_of_rooms())
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise CommandRefused(words[-1] if words else f"{folder} could not be checked")
    return done.stdout.strip()
