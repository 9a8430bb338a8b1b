"""What each cell said last of each slice: an aggregate need not name all of them.

A slice whose twin has a longer period than its cells' aggregates is in each n-th of
them; until its next one is due, the last one stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from controller.contracts.twin_messages import CellAggregate, SliceDemand

NOTHING: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Said:
    demand: SliceDemand
    completed_at_ns: int
    period_ms: int

    def is_fresh(self, now_ns: int, periods: int) -> bool:
        return (now_ns - self.completed_at_ns) / 1e6 <= periods * self.period_ms


class HeldDemands:
    """`fresh_periods`: after so many of its periods without a word, a cell's last is no more."""

    def __init__(self, fresh_periods: int) -> None:
        self._periods = fresh_periods
        self._said: dict[tuple[str, int], _Said] = {}

    def keep(self, aggregate: CellAggregate, every: Mapping[int, int] = NOTHING) -> None:
        """`every`: of slices (by slice_id) that are in each n-th aggregate only."""
        for demand in aggregate.slices:
            self._said[aggregate.cell_id, demand.slice_id] = _Said(
                demand,
                aggregate.completed_at_ns,
                aggregate.period_ms * every.get(demand.slice_id, 1),
            )

    def fresh(self, slice_id: int, newest: CellAggregate) -> Iterable[SliceDemand]:
        """The slice's in all cells that said something lately."""
        for (_, other), said in self._said.items():
            if other == slice_id and said.is_fresh(newest.completed_at_ns, self._periods):
                yield said.demand

    def completed(self, aggregate: CellAggregate) -> CellAggregate:
        """With the cell's last word on slices that this aggregate leaves out."""
        present = {d.slice_id for d in aggregate.slices}
        missing = [
            said.demand
            for (cell_id, slice_id), said in self._said.items()
            if cell_id == aggregate.cell_id
            and slice_id not in present
            and said.is_fresh(aggregate.completed_at_ns, self._periods)
        ]
        if not missing:
            return aggregate
        return aggregate.model_copy(update={"slices": [*aggregate.slices, *missing]})

    def forget(self, slice_ids: Iterable[int]) -> None:
        gone = set(slice_ids)
        self._said = {k: s for k, s in self._said.items() if k[1] not in gone}
