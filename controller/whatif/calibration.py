"""What the emulator learns from measured runs: few physical parameters, and where they come from.

Queues need none (`links`): their rates and bursts are the controller's own.  Left are the
delay of switching without a queue, its spread, and a factor on computed waits that would be
1 if timers and packet sizes were ideal.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from controller.contracts.slices import Strict
from controller.whatif.links import FloatArray

DEFAULT_PATH = Path(__file__).resolve().parent / "calibration.json"
Ratio = Annotated[float, Field(ge=0)]


class SourceRun(Strict):
    """A run that the parameters were fitted on."""

    scenario: str
    policy: str
    seed: int
    duration_s: float
    verdict: str
    probes: int


class Calibration(Strict):
    """One way, downlink, in milliseconds.

    Median delay of a packet that meets no queue: `switching_ms` + `host_ms` for every host of
    the network (each is a port that the userspace switch polls) + `wire_ms` where a wire
    delays + what that wire is configured for.  `spread_ratio`: quantiles 0, 1/n, ..., 1 of the
    actual over the median switching delay, the wire's part left out.
    """

    switching_ms: Ratio
    host_ms: Ratio
    wire_ms: Ratio
    wait_ratio: Ratio
    spread_ratio: list[float]
    packet_bytes: Ratio
    """L2, of traffic whose own packet size nobody told."""
    sources: list[SourceRun]

    def median_ms(self, hosts: int, configured_ms: FloatArray | float) -> FloatArray:
        """Unqueued one-way delay; `configured_ms`: of the wires on the way."""
        configured = np.asarray(configured_ms, dtype=np.float64)
        wired = np.where(configured > 0, self.wire_ms, 0.0)
        return np.asarray(self.switching_ms + self.host_ms * hosts + wired + configured)

    @cached_property
    def _spread(self) -> FloatArray:
        return np.asarray(self.spread_ratio)

    def spread(self, quantile: FloatArray) -> FloatArray:
        """Actual over median switching delay at these quantiles (0-1)."""
        grid = np.linspace(0.0, 1.0, self._spread.size)
        return np.interp(quantile, grid, self._spread)

    @classmethod
    def load(cls, path: Path = DEFAULT_PATH) -> Calibration:
        """Raises OSError or pydantic's ValidationError."""
        return cls.model_validate_json(path.read_bytes())
