"""Where this checkout is, where it keeps what runs produce, how its programs find its code."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "results"
"""Ignored by git; the default place of everything that runs leave behind."""


def environment_of_rooms() -> dict[str, str]:
    """The caller's environment, with this checkout's code and the SDK to import."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "xapps" / "sdk")])
    return {**os.environ, "PYTHONPATH": path}
