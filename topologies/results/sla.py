"""Whether a slice got what it was promised, window by window. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.contracts.slices import SliceSla
from topologies.results.windows import SliceWindows

GOODPUT_TOLERANCE_RATIO = 0.01

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SlaVerdicts:
    """One truth a window and term; a term that the SLA does not have is true everywhere."""

    goodput: BoolArray
    delay: BoolArray
    loss: BoolArray

    @property
    def satisfied(self) -> BoolArray:
        return self.goodput & self.delay & self.loss


def judge(sla: SliceSla, windows: SliceWindows) -> SlaVerdicts:
    """A window in which nothing was sent violates nothing.

    A window whose packets were all lost violates its delay bound: none met it.
    """
    everywhere = np.ones(len(windows.sent_packets), dtype=np.bool_)
    silent = windows.sent_packets == 0
    promised_mbps = np.minimum(windows.offered_mbps, sla.guaranteed_mbps)
    goodput = windows.goodput_mbps >= (1 - GOODPUT_TOLERANCE_RATIO) * promised_mbps
    delay, loss = everywhere, everywhere
    if sla.delay is not None:
        delay_ms = windows.delay_percentile_ms(sla.delay.percentile)
        delay = silent | (delay_ms <= sla.delay.bound_ms)
    if sla.loss_ratio is not None:
        allowed = sla.loss_ratio * windows.sent_packets
        loss = silent | (windows.lost_packets <= allowed)
    return SlaVerdicts(goodput, delay, loss)
