"""Whose twins a budget is spent on: users, what their reports cost, what age costs decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from controller.contracts.inventory import Inventory, User
from controller.contracts.twin_budget import UserSpent
from controller.contracts.twin_models import (
    MAX_BATCH_SPAN_MS,
    Changes,
    Layer,
    Override,
    Upload,
)
from controller.ric.spending_window import SpendingWindow
from controller.ric.twin_control import TwinControl
from controller.twins.spending import (
    LONGEST_MS,
    Pair,
    Payer,
    Setting,
    SpendingState,
    confidence_ratio,
    is_far_from_handover,
    longest_ms,
    weight_of,
)
from controller.twins.twin import Twin

MISSED_SHARE = 0.2
"""Of the newest window in what is remembered of a slice's SLA in a cell."""
COARSE = {
    "attribute_period_ms": {
        "connectivity.rsrp_dbm": 10_000,
        "user.location_m": 10_000,
        "user.speed_mps": 10_000,
    },
    "precision": {
        "services.demand_kbps": 1.0,
        "services.goodput_kbps": 10.0,
        "services.loss_ratio": 0.001,
        "services.owd_p95_ms": 0.1,
    },
}
"""Of who stands still: coarser than any model of a type has it, finer than decisions need."""


class Cells(Protocol):
    @property
    def cells(self) -> Mapping[str, Twin]: ...


def said_by_budget(overrides: Iterable[Override]) -> dict[str, Setting]:
    """What the budget has users do now."""
    return {
        o.ue_id: Setting(o.changes.period_ms, bool(o.changes.precision))
        for o in overrides
        if o.layer is Layer.BUDGET and o.ue_id is not None and o.changes.period_ms is not None
    }


class Payers:
    """Reads twins of cells and twin models; remembers how often slices missed their SLA."""

    def __init__(self, inventory: Inventory, control: TwinControl, level_two: Cells) -> None:
        self._users = {u.ue_id: u for u in inventory.users}
        self._names = {s.slice_id: str(s.s_nssai) for s in inventory.slices}
        self._control = control
        self._level_two = level_two
        self._missed: dict[tuple[str, int], float] = {}

    def of(self, window: SpendingWindow, state: SpendingState) -> list[Payer]:
        """Users whose period is the budget's to set; without those that sent nothing yet."""
        self._remember_misses()
        found = []
        for spent in window.users():
            user = self._users[spent.ue_id]
            size = window.report_bytes(spent.ue_id)
            payer = self._payer(user, spent, size, state) if size is not None else None
            if payer is not None:
                found.append(payer)
        return found

    def _payer(
        self, user: User, spent: UserSpent, size_bytes: float, state: SpendingState
    ) -> Payer | None:
        """None when somebody else says its period, or somebody else stands for it."""
        now = self._control.settings(user, spent.cell_id)
        probe = Override(
            ue_id=user.ue_id, layer=Layer.BUDGET, changes=Changes(period_ms=LONGEST_MS + 1)
        )
        others = [
            o
            for o in self._control.overrides
            if not (o.layer is Layer.BUDGET and o.ue_id == user.ue_id)
        ]
        own = self._control.settings(user, spent.cell_id, others)
        batch = now.batch_reports if now.upload is Upload.BATCH else 1
        if batch == 1:
            probed = self._control.settings(user, spent.cell_id, [*others, probe])
            if probed.period_ms != LONGEST_MS + 1:
                return None
        if own.represented_by is not None:
            return None
        return Payer(
            ue_id=user.ue_id,
            report_bytes=size_bytes / batch,
            own_ms=own.period_ms,
            period_ms=now.period_ms,
            weight=self.weight(spent),
            confidence_ratio=confidence_ratio(spent.observed_s),
            longest_ms=max(own.period_ms, min(longest_ms(spent), MAX_BATCH_SPAN_MS // batch)),
            may_be_coarse=is_far_from_handover(spent, user.ue_id in state.coarse),
        )

    def weight(self, spent: UserSpent) -> float:
        pairs = {}
        for slice_id in spent.demand_kbps:
            pair = self._pair(spent.cell_id, slice_id)
            if pair is not None:
                pairs[spent.cell_id, slice_id] = pair
        return weight_of(spent, pairs)

    def _pair(self, cell_id: str, slice_id: int) -> Pair | None:
        twin, name = self._level_two.cells.get(cell_id), self._names.get(slice_id)
        if twin is None or name is None:
            return None
        demand = twin.attributes.get(f"demand_kbps.{name}")
        reserved = twin.attributes.get(f"min_kbps.{name}")
        if demand is None or demand.value is None:
            return None
        held_kbps = reserved.value if reserved is not None and reserved.value else 0.0
        return Pair(demand.value, held_kbps, self._missed.get((cell_id, slice_id), 0.0))

    def _remember_misses(self) -> None:
        for cell_id, twin in self._level_two.cells.items():
            for slice_id, name in self._names.items():
                held = twin.attributes.get(f"sla_satisfied.{name}")
                if held is not None and held.value is not None:
                    key = (cell_id, slice_id)
                    before = self._missed.get(key, 0.0)
                    self._missed[key] = before + MISSED_SHARE * (1 - held.value - before)
