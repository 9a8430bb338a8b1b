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
from controller.whatif.paths import Paths

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

    Median delay of a packet that meets no queue: for every switch that it passes `switch_ms`
    and, for every host of the network (each is a port that the userspace switch polls between
    two looks at this packet's), `host_ms`; then `wire_ms` where a wire delays, and what its
    wires are configured for.  `spread_ratio`: quantiles 0, 1/n, ..., 1 of the actual over the
    median switching delay, the wires' part left out.
    """

    switch_ms: Ratio
    host_ms: Ratio
    wire_ms: Ratio
    wait_ratio: Ratio
    spread_ratio: list[float]
    packet_bytes: Ratio
    """L2, of traffic whose own packet size nobody told."""
    sources: list[SourceRun]

    def switching_ms(self, paths: Paths) -> FloatArray:
        """[cell, slice]: median time in switches, without a queue."""
        return np.asarray(paths.switches * (self.switch_ms + self.host_ms * paths.hosts))

    def wires_ms(self, paths: Paths) -> FloatArray:
        """[cell, slice]: time on wires that delay, which hardly varies."""
        configured = paths.configured_ms
        return np.asarray(np.where(configured > 0, self.wire_ms + configured, 0.0))

    def unqueued_ms(self, paths: Paths, quantile: float) -> FloatArray:
        """[cell, slice]: a delay at this quantile (0-1) where nothing queues."""
        spread = float(self.spread(np.array(quantile)))
        return np.asarray(self.wires_ms(paths) + spread * self.switching_ms(paths))

    @cached_property
    def _spread(self) -> FloatArray:
        return np.asarray(self.spread_ratio)

    def spread(self, quantile: FloatArray) -> FloatArray:
        """Actual over median switching delay at these quantiles (0-1)."""
        grid = np.linspace(0.0, 1.0, self._spread.size)
        return np.interp(quantile, grid, self._spread)

    @property
    def mean_spread(self) -> float:
        """Mean over median switching delay: tails are on one side."""
        return float(np.trapezoid(self._spread, dx=1.0 / (self._spread.size - 1)))

    @classmethod
    def load(cls, path: Path = DEFAULT_PATH) -> Calibration:
        """Raises OSError or pydantic's ValidationError."""
        return cls.model_validate_json(path.read_bytes())
