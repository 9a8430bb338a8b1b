"""Links as fluids: meters, HTB classes and finite queues, all links of all forks at once.

One row a link (a cell's downlink in one fork), one column a class.  Simulated are the
mechanisms that Open vSwitch and the kernel have, each by its own parameters, so little is
left to calibrate:

* meter: a token bucket before the queue; what finds it empty is dropped;
* HTB class: a bucket of its guaranteed rate and one of its ceiling.  Guaranteed rates are
  served first; what they leave of the link is lent in the order of priority.  Borrowing
  does not spend a class's own tokens (`htb_charge_class` in Linux);
* queue: so many packets, the oldest dropped when full (`topologies/leaf_queues.py`), so a
  packet that gets through an overloaded queue waited limit / arrival rate, not limit / service.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from controller.contracts.queue_tree import (
    BURST_MS,
    LEAST_BURST_BITS,
    LEAST_RATE_KBPS,
    PRIORITY,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

METER_BURST_MS = 50
METER_LEAST_BURST_BITS = 120_000
"""As the controller sets its meters (`controller/metering.py`; a test compares)."""
QUEUE_PACKETS = 100
"""Of every queue, unless a scenario says otherwise."""
_EMPTY_BITS = 1.0


@dataclass(frozen=True)
class Classes:
    """What does not change: `link_kbps` [row], `packet_bits` [class], `queue_packets`."""

    link_kbps: FloatArray
    packet_bits: FloatArray
    queue_packets: int = QUEUE_PACKETS

    @property
    def shape(self) -> tuple[int, int]:
        return self.link_kbps.size, self.packet_bits.size


@dataclass(frozen=True)
class Rates:
    """What decisions change, each [row, class]: guaranteed rate, ceiling of the queue, rate of
    the meter (kbit/s), and HTB priority (lower borrows first)."""

    min_kbps: FloatArray
    max_kbps: FloatArray
    meter_kbps: FloatArray
    priority: IntArray

    @property
    def burst_bits(self) -> FloatArray:
        """Of HTB: equal for the guaranteed rate and the ceiling, as Open vSwitch sets it."""
        return np.maximum(LEAST_BURST_BITS, self.max_kbps * BURST_MS)

    @property
    def meter_burst_bits(self) -> FloatArray:
        return np.maximum(METER_LEAST_BURST_BITS, self.meter_kbps * METER_BURST_MS)


def unreserved(classes: Classes) -> Rates:
    """Nobody holds anything: the least guarantee, no ceiling but the link, no privilege."""
    link_kbps = np.broadcast_to(classes.link_kbps[:, None], classes.shape).copy()
    least_kbps = np.full(classes.shape, float(LEAST_RATE_KBPS))
    lowest = np.full(classes.shape, max(PRIORITY.values()))
    return Rates(least_kbps, link_kbps, link_kbps.copy(), lowest)


@dataclass(frozen=True)
class Step:
    """Of one step, each [row, class]: bits delivered and lost, and how long arrivals wait."""

    delivered_bits: FloatArray
    lost_bits: FloatArray
    wait_ms: FloatArray


class Links:
    """The state of all links: backlogs and buckets."""

    def __init__(self, classes: Classes, rates: Rates) -> None:
        self.classes = classes
        self._limit_bits = classes.queue_packets * classes.packet_bits
        self._backlog = np.zeros(classes.shape)
        self._debt = np.zeros(classes.shape[0])
        self._set(rates)
        self._own = self._burst.copy()
        self._ceiling = self._burst.copy()
        self._meter = self._meter_burst.copy()

    @property
    def backlog_bits(self) -> FloatArray:
        return self._backlog

    def set_backlog(self, bits: FloatArray) -> None:
        """Start with these queues; what a waiting class had saved up is spent."""
        self._backlog = np.minimum(bits, self._limit_bits)
        waiting = self._backlog > 0
        self._own = np.where(waiting, 0.0, self._own)
        self._meter = np.where(waiting, 0.0, self._meter)

    def forked(self, forks: int, rates: Rates) -> Links:
        """So many copies in this state, a block of rows each, under `rates` from now on."""
        classes = replace(self.classes, link_kbps=np.tile(self.classes.link_kbps, forks))
        made = Links(classes, rates)
        made._backlog = np.tile(self._backlog, (forks, 1))
        made._debt = np.tile(self._debt, forks)
        made._own = np.tile(self._own, (forks, 1))
        made._ceiling = np.tile(self._ceiling, (forks, 1))
        made._meter = np.tile(self._meter, (forks, 1))
        made.change(rates)
        return made

    def change(self, rates: Rates) -> None:
        """Other rates from now on; queues stay, buckets are cut to their new size."""
        self._set(rates)
        self._own = np.minimum(self._own, self._burst)
        self._ceiling = np.minimum(self._ceiling, self._burst)
        self._meter = np.minimum(self._meter, self._meter_burst)

    def _set(self, rates: Rates) -> None:
        self._rates = rates
        self._levels = [np.where(rates.priority == p, 1.0, 0.0) for p in np.unique(rates.priority)]
        self._burst = rates.burst_bits
        # The last packet that a meter refuses finds less than itself left in the bucket.
        self._meter_burst = rates.meter_burst_bits - self.classes.packet_bits

    def step(self, offered_kbps: FloatArray, step_ms: float) -> Step:
        """`offered_kbps` [row, class] during the next `step_ms`."""
        offered = offered_kbps * step_ms
        room = self._meter + self._rates.meter_kbps * step_ms
        passed = np.minimum(offered, room)
        self._meter = np.minimum(room - passed, self._meter_burst)
        present = self._backlog + passed
        sent = self._serve(present, step_ms)
        left = present - sent
        overflow = np.maximum(left - self._limit_bits, 0.0)
        self._backlog = left - overflow
        drained = sent + overflow
        waits = (self._backlog > _EMPTY_BITS) & (drained > 0)
        wait_ms = np.where(waits, self._backlog * step_ms / np.where(waits, drained, 1.0), 0.0)
        return Step(sent, offered - passed + overflow, wait_ms)

    def _serve(self, present: FloatArray, step_ms: float) -> FloatArray:
        own = self._own + self._rates.min_kbps * step_ms
        ceiling = self._ceiling + self._rates.max_kbps * step_ms
        wanted = np.minimum(present, ceiling)
        sent = np.minimum(wanted, own)
        self._own = np.minimum(own - sent, self._burst)
        link = self._debt + self.classes.link_kbps * step_ms
        free = np.maximum(link - sent.sum(axis=1), 0.0)
        more = wanted - sent
        for of_level in self._levels:
            asked = more * of_level
            total = asked.sum(axis=1)
            share = np.minimum(1.0, free / np.maximum(total, 1e-9))
            sent += asked * share[:, None]
            free = free - total * share
        self._debt = np.minimum(link - sent.sum(axis=1), 0.0)
        self._ceiling = np.minimum(ceiling - sent, self._burst)
        return sent
