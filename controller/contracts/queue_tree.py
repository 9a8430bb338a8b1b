"""The queue tree of a port with a rate: which queues stand always, and the row shape of all.

The emulation creates a port's QoS row with the fixed queues below; the
controller adds and changes one Queue row per live (slice, class) and never
touches the fixed ones.  Both write the row shape of `queue_row`.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.contracts.slices import BEST_EFFORT_QUEUE_ID, CONTROL_QUEUE_ID, TrafficClass

INFRASTRUCTURE_QUEUE_ID = 0
LEAST_RATE_KBPS = 12
"""Open vSwitch raises every smaller min-rate to this (one 1,500 byte frame a second)."""

BURST_MS = 10
LEAST_BURST_BITS = 48_000
"""What a class may catch up after its timer came late: 10 ms of its rate, four full
frames at least.  With HTB's least, one frame, a busy machine costs it throughput."""

INFRASTRUCTURE_PRIORITY = 0
PRIORITY = {
    TrafficClass.CONTROL: 1,
    TrafficClass.REAL_TIME: 2,
    TrafficClass.BEST_EFFORT: 3,
    TrafficClass.ELASTIC: 4,
}
"""HTB priority, lower first.  It orders packets within guaranteed rates and the
borrowing of what is left; it never takes a guaranteed rate from anybody.
Best-effort borrows before elastic: where a filler saturates a link, elastic gets
what is reserved and no more (measured on 14 Mbit/s: a slice with 3.5 reserved and 6.9
offered got 6.9 at equal priority, 3.5 so); elsewhere it borrows what is idle."""

INFRASTRUCTURE_RATIO = 0.05
"""Queue 0's ceiling, as a share of the link: twins never crowd out users."""
_CONTROL_CEILING_RATIO = 0.10
_FIXED_SHARES = {INFRASTRUCTURE_QUEUE_ID: 0.5, CONTROL_QUEUE_ID: 0.1, BEST_EFFORT_QUEUE_ID: 0.4}
"""How the fixed queues' guaranteed rates divide what reservations may not take."""


@dataclass(frozen=True)
class QueueRates:
    """One HTB class: guaranteed rate, ceiling, priority."""

    min_kbps: int
    max_kbps: int
    priority: int


def queue_row(rates: QueueRates) -> dict[str, str]:
    """`other_config` of an OVSDB Queue row of a linux-htb QoS, rates in bit/s."""
    return {
        "min-rate": str(max(rates.min_kbps, LEAST_RATE_KBPS) * 1000),
        "max-rate": str(rates.max_kbps * 1000),
        "burst": str(max(LEAST_BURST_BITS, rates.max_kbps * BURST_MS)),
        "priority": str(rates.priority),
    }


def fixed_queues(
    link_kbps: int, reservable_ratio: float, slicing: bool = True
) -> dict[int, QueueRates]:
    """Queue id -> rates of the queues every port with a rate has.

    Their guaranteed rates fit in what `reservable_ratio` leaves, at most a tenth
    of the link.  Without slicing, queue 0 is the whole link and the only queue.
    """
    if not slicing:
        return {INFRASTRUCTURE_QUEUE_ID: QueueRates(link_kbps, link_kbps, INFRASTRUCTURE_PRIORITY)}
    left_kbps = link_kbps * min(1 - reservable_ratio, 2 * INFRASTRUCTURE_RATIO)

    def guaranteed_kbps(queue_id: int) -> int:
        return max(LEAST_RATE_KBPS, int(left_kbps * _FIXED_SHARES[queue_id]))

    def ceiling_kbps(ratio: float, queue_id: int) -> int:
        return max(int(link_kbps * ratio), guaranteed_kbps(queue_id))

    return {
        INFRASTRUCTURE_QUEUE_ID: QueueRates(
            guaranteed_kbps(INFRASTRUCTURE_QUEUE_ID),
            ceiling_kbps(INFRASTRUCTURE_RATIO, INFRASTRUCTURE_QUEUE_ID),
            INFRASTRUCTURE_PRIORITY,
        ),
        CONTROL_QUEUE_ID: QueueRates(
            guaranteed_kbps(CONTROL_QUEUE_ID),
            ceiling_kbps(_CONTROL_CEILING_RATIO, CONTROL_QUEUE_ID),
            PRIORITY[TrafficClass.CONTROL],
        ),
        BEST_EFFORT_QUEUE_ID: QueueRates(
            guaranteed_kbps(BEST_EFFORT_QUEUE_ID), link_kbps, PRIORITY[TrafficClass.BEST_EFFORT]
        ),
    }
