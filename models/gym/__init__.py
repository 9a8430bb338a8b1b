"""Gymnasium environments on the what-if emulator; `HolonSlicing-v0` is registered on import.

Training only: a running testbed never imports this.
"""

from __future__ import annotations

import gymnasium

ENVIRONMENT_ID = "HolonSlicing-v0"

gymnasium.register(id=ENVIRONMENT_ID, entry_point="models.gym.slicing:SlicingEnv")
