"""How long a start may take: a factor for machines that are slow on purpose.

An emulated processor runs Python about 15 times slower; what is late there is not
broken.  Only limits of starting are stretched, never those of a running loop.
"""

from __future__ import annotations

import os

VARIABLE = "HOLON_PATIENCE"
"""Factor >= 1, e.g. 4; `./testbed.sh vm` sets it in the virtual machine."""


def stretched_s(limit_s: float) -> float:
    """`limit_s` times the factor; ValueError for a factor that is none."""
    factor = float(os.environ.get(VARIABLE, "1"))
    if not factor >= 1:
        raise ValueError(f"{VARIABLE}={os.environ[VARIABLE]}: a factor of 1 or more")
    return limit_s * factor
