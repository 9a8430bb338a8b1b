"""From reservations to the rates of links: what queues and meters a cell's downlink would have.

The same rules as `controller/queues.py` and `controller/metering.py` apply to switches, on
arrays; `tests/unit/test_whatif_links.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controller.contracts.inventory import Reservation
from controller.contracts.queue_tree import (
    LEAST_RATE_KBPS,
    PRIORITY,
    fixed_queues,
)
from controller.contracts.slices import BEST_EFFORT_QUEUE_ID, TrafficClass
from controller.whatif.links import Classes, Rates, unreserved

Pair = tuple[int, TrafficClass]
"""(slice_id, traffic_class), a column; the last column of all links is best-effort, shared."""
Plan = Mapping[str, Iterable[Reservation]]
"""cell_id -> everything reserved there."""


@dataclass(frozen=True)
class Columns:
    """Which column of the arrays is whose; rows are `cells`, one block of them a fork."""

    cells: Sequence[str]
    link_kbps: Sequence[float]
    pairs: Sequence[Pair]
    packet_bits: Sequence[float]
    """Of each pair, then of best-effort."""
    reservable_ratio: float

    @property
    def best_effort(self) -> int:
        return len(self.pairs)

    def classes(self, forks: int = 1) -> Classes:
        return Classes(
            np.tile(np.asarray(self.link_kbps, float), forks), np.array(self.packet_bits)
        )


def rates_of(columns: Columns, plan: Plan) -> Rates:
    """Rows in the order of `columns.cells`."""
    rates = unreserved(columns.classes())
    column_of = {pair: index for index, pair in enumerate(columns.pairs)}
    shared = columns.best_effort
    for row, (cell_id, link_kbps) in enumerate(zip(columns.cells, columns.link_kbps, strict=True)):
        fixed = fixed_queues(round(link_kbps), columns.reservable_ratio)[BEST_EFFORT_QUEUE_ID]
        rates.min_kbps[row, shared] = fixed.min_kbps
        rates.max_kbps[row, shared] = fixed.max_kbps
        rates.priority[row, shared] = fixed.priority
        for r in plan.get(cell_id, ()):
            column = column_of.get((r.slice_id, r.traffic_class))
            if column is None:
                continue
            real_time = r.traffic_class is TrafficClass.REAL_TIME
            least_kbps = max(r.min_kbps, LEAST_RATE_KBPS)
            most_kbps = r.min_kbps if real_time else r.max_kbps
            rates.min_kbps[row, column] = least_kbps
            rates.max_kbps[row, column] = min(max(most_kbps, least_kbps), link_kbps)
            rates.meter_kbps[row, column] = max(most_kbps, LEAST_RATE_KBPS)
            rates.priority[row, column] = PRIORITY[r.traffic_class]
    return rates


def stacked(parts: Sequence[Rates]) -> Rates:
    """The rates of several forks, one block of rows each."""
    return Rates(
        np.concatenate([p.min_kbps for p in parts]),
        np.concatenate([p.max_kbps for p in parts]),
        np.concatenate([p.meter_kbps for p in parts]),
        np.concatenate([p.priority for p in parts]),
    )
