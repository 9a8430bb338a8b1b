"""The fast emulator: links under offered traffic and changing reservations, over time.

Pure: traffic in, what was delivered, lost and delayed out.  It knows neither users nor
scenarios: who is served where is in `offered_kbps`, handovers included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.whatif.links import Classes, FloatArray, Links, Rates

STEP_MS = 25.0
"""Fine enough for the smallest bucket (10 ms of a rate empties within a step at worst, so a
step's mean is right), coarse enough for hundreds of times real time."""

Replan = Callable[[int], Rates | None]
"""Step index -> rates in force from this step on; None: as before."""


@dataclass(frozen=True)
class Traffic:
    """`offered_kbps` [step, row, class], L2; every `step_ms`."""

    offered_kbps: FloatArray
    step_ms: float = STEP_MS

    @property
    def steps(self) -> int:
        return int(self.offered_kbps.shape[0])


@dataclass(frozen=True)
class Course:
    """What became of the traffic; all [step, row, class]."""

    offered_kbps: FloatArray
    delivered_kbps: FloatArray
    lost_kbps: FloatArray
    wait_ms: FloatArray
    step_ms: float


def emulate(
    classes: Classes, traffic: Traffic, rates: Rates, replan: Replan | None = None
) -> Course:
    """From empty queues; `rates` hold from the start, `replan` may change them before any step."""
    return run(Links(classes, rates), traffic, replan)


def run(links: Links, traffic: Traffic, replan: Replan | None = None) -> Course:
    """From the state that `links` are in, which goes on with it."""
    shape = (traffic.steps, *links.classes.shape)
    delivered, lost, wait_ms = np.empty(shape), np.empty(shape), np.empty(shape)
    for index in range(traffic.steps):
        if replan is not None and (changed := replan(index)) is not None:
            links.change(changed)
        step = links.step(traffic.offered_kbps[index], traffic.step_ms)
        delivered[index], lost[index] = step.delivered_bits, step.lost_bits
        wait_ms[index] = step.wait_ms
    return Course(
        np.broadcast_to(traffic.offered_kbps, shape),
        delivered / traffic.step_ms,
        lost / traffic.step_ms,
        wait_ms,
        traffic.step_ms,
    )


def scheduled(changes: Sequence[tuple[int, Rates]]) -> Replan:
    """Rates that are known beforehand: (first step, rates), in any order."""
    at = dict(changes)
    return at.get
