"""Level-two abstraction (VL4): twins of slices and cells, kept at the centre.

Formed from what local controllers aggregate (`CellAggregate`), what the switches
count, what is reserved and what xApps forecast.  Every attribute says where its
value comes from and when it was measured.  Attributes of one slice in one cell are
named `<name>.<cell_id>` in the slice's twin and `<name>.<sst-sd>` in the cell's.
The functions are pure; `LevelTwo` only holds the current twins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slices import Slice, TrafficClass
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.twins.energy import slice_power_w
from controller.twins.held_demands import NOTHING, HeldDemands
from controller.twins.slice_sums import (
    COUNTERS,
    POWER_SOURCE,
    SatisfiedWindows,
    ServiceLoad,
    demand_shares,
    rate_totals,
    service_attributes,
)
from controller.twins.twin import Attribute, Prediction, Twin, updated

FRESH_PERIODS = 3
"""A cell that was silent for longer no longer counts in its slices' totals."""


@dataclass(frozen=True)
class MeasuredRate:
    """What a (cell, slice, class) meter received and its queue sent, over `period_ms`."""

    cell_id: str
    slice_id: int
    traffic_class: TrafficClass
    arrived_kbps: float
    delivered_kbps: float | None
    """None: its queue is shared with other slices."""


def is_sla_satisfied(slice_: Slice, demand: SliceDemand) -> bool:
    """The slice's SLA in one window, as far as users' twins can tell.

    Received rate is demand less loss, both L2, so headers cancel out; the truth is
    judged later from probes.
    """
    received_kbps = demand.demand_kbps * (1 - demand.loss_ratio)
    promised_kbps = min(demand.demand_kbps, slice_.sla.guaranteed_mbps * 1000)
    if received_kbps < 0.99 * promised_kbps:
        return False
    delay, loss_ratio = slice_.sla.delay, slice_.sla.loss_ratio
    if delay is not None and demand.owd_p95_ms is not None and demand.owd_p95_ms > delay.bound_ms:
        return False
    return loss_ratio is None or demand.loss_ratio <= loss_ratio


def demand_values(slice_: Slice, demand: SliceDemand) -> dict[str, float | None]:
    return {
        "users": demand.users,
        "demand_kbps": demand.demand_kbps,
        "goodput_kbps": demand.goodput_kbps,
        "loss_ratio": demand.loss_ratio,
        "owd_p95_ms": demand.owd_p95_ms,
        "sla_satisfied": float(is_sla_satisfied(slice_, demand)),
    }


def total_demand(demands: Iterable[SliceDemand]) -> SliceDemand | None:
    """One slice over several cells: sums, demand-weighted loss, the worst delay."""
    present = list(demands)
    if not present:
        return None
    demand_kbps = sum(d.demand_kbps for d in present)
    lost_kbps = sum(d.demand_kbps * d.loss_ratio for d in present)
    delays_ms = [d.owd_p95_ms for d in present if d.owd_p95_ms is not None]
    return SliceDemand(
        slice_id=present[0].slice_id,
        users=sum(d.users for d in present),
        demand_kbps=demand_kbps,
        goodput_kbps=sum(d.goodput_kbps for d in present),
        loss_ratio=lost_kbps / demand_kbps if demand_kbps > 0 else 0.0,
        owd_p95_ms=max(delays_ms) if delays_ms else None,
    )


class LevelTwo:
    """The current twins of all slices and cells of a run."""

    def __init__(self, inventory: Inventory) -> None:
        self._slices = {s.slice_id: s for s in inventory.slices}
        self._capacity_kbps = {c.cell_id: c.down_kbps for c in inventory.cells}
        self._kinds = {c.cell_id: c.kind for c in inventory.cells}
        self._satisfied: dict[str, SatisfiedWindows] = {}
        self._reservable_ratio = inventory.reservable_ratio
        self._windows: dict[str, int] = {}
        self.held = HeldDemands(FRESH_PERIODS)
        self.slices = {str(s.s_nssai): Twin("slice", str(s.s_nssai)) for s in inventory.slices}
        self.cells = {c.cell_id: Twin("cell", c.cell_id) for c in inventory.cells}

    def keep(self, slices: Sequence[Slice]) -> None:
        """Twins of exactly these slices: new ones start empty, ended ones go with all they left."""
        ended = {str(s.s_nssai) for s in self._slices.values()} - {str(s.s_nssai) for s in slices}
        self._slices = {s.slice_id: s for s in slices}
        names = [str(s.s_nssai) for s in slices]
        self.slices = {n: self.slices.get(n) or Twin("slice", n) for n in names}
        self._satisfied = {n: w for n, w in self._satisfied.items() if n in names}
        for cell_id, twin in self.cells.items():
            left = {
                name: attribute
                for name, attribute in twin.attributes.items()
                if name.partition(".")[2] not in ended
            }
            self.cells[cell_id] = replace(twin, attributes=left)

    def is_new(self, aggregate: CellAggregate) -> bool:
        """False when this cell's twin already has that window or a later one."""
        last = self._windows.get(aggregate.cell_id)
        return last is None or aggregate.window > last

    def apply_aggregate(
        self, aggregate: CellAggregate, now_ns: int, every: Mapping[int, int] = NOTHING
    ) -> list[Twin]:
        """The twins that changed; none for a duplicate or late aggregate.

        `every`: slices (by slice_id) that are in each n-th aggregate only.
        """
        if not self.is_new(aggregate):
            return []
        self._windows[aggregate.cell_id] = aggregate.window
        self.held.keep(aggregate, every)
        changed: list[Twin] = []
        source = f"aggregate:{aggregate.edge}"

        def sampled(value: float | None, periods: int = 1) -> Attribute:
            period_ms = periods * aggregate.period_ms
            return Attribute(value, aggregate.completed_at_ns, period_ms, source)

        cell = {
            "users_reported": sampled(aggregate.users_reported),
            "users_expected": sampled(aggregate.users_expected),
        }
        for demand in aggregate.slices:
            slice_ = self._slices.get(demand.slice_id)
            if slice_ is None:
                continue
            name = str(slice_.s_nssai)
            n = every.get(demand.slice_id, 1)
            values = demand_values(slice_, demand)
            cell |= {f"{key}.{name}": sampled(v, n) for key, v in values.items()}
            here = {f"{key}.{aggregate.cell_id}": sampled(v, n) for key, v in values.items()}
            total = total_demand(self.held.fresh(demand.slice_id, aggregate))
            if total is not None:
                here |= {k: sampled(v, n) for k, v in demand_values(slice_, total).items()}
                windows = self._satisfied.setdefault(name, SatisfiedWindows(aggregate.period_ms))
                windows.note(aggregate.window, bool(here["sla_satisfied"].value))
            self.slices[name] = updated(self.slices[name], here, now_ns)
            changed.append(self.slices[name])
        self.cells[aggregate.cell_id] = updated(self.cells[aggregate.cell_id], cell, now_ns)
        return [*changed, self.cells[aggregate.cell_id]]

    def apply_reservations(
        self, cell_id: str, reservations: Iterable[Reservation], now_ns: int
    ) -> None:
        """What the cell's switch confirmed; a slice's rates are summed over its classes."""
        sums: dict[int, tuple[int, int]] = {}
        for r in reservations:
            low_kbps, high_kbps = sums.get(r.slice_id, (0, 0))
            sums[r.slice_id] = (low_kbps + r.min_kbps, high_kbps + r.max_kbps)

        def confirmed(value: float) -> Attribute:
            return Attribute(value, now_ns, None, "enforcement")

        capacity_kbps = self._capacity_kbps[cell_id]
        cell = {
            "reserved_kbps": confirmed(sum(low for low, _ in sums.values())),
            "capacity_kbps": confirmed(capacity_kbps),
            "reservable_kbps": confirmed(round(capacity_kbps * self._reservable_ratio)),
        }
        for slice_id, (low_kbps, high_kbps) in sums.items():
            slice_ = self._slices.get(slice_id)
            if slice_ is None:  # the filler's
                continue
            name = str(slice_.s_nssai)
            rates = {"min_kbps": confirmed(low_kbps), "max_kbps": confirmed(high_kbps)}
            cell |= {f"{key}.{name}": value for key, value in rates.items()}
            here = {f"{key}.{cell_id}": value for key, value in rates.items()}
            twin = updated(self.slices[name], here, now_ns)
            minima = [a.value or 0 for k, a in twin.attributes.items() if k.startswith("min_kbps.")]
            self.slices[name] = updated(twin, {"reserved_kbps": confirmed(sum(minima))}, now_ns)
        self.cells[cell_id] = updated(self.cells[cell_id], cell, now_ns)

    def apply_rates(self, rates: Iterable[MeasuredRate], period_ms: int, now_ns: int) -> None:
        """What the switches counted since the last poll, summed over a slice's classes.

        A slice's figures over all cells are made here as well: no loop waits for them.
        """
        by_pair: dict[tuple[str, int], list[MeasuredRate]] = {}
        for rate in rates:
            if rate.slice_id in self._slices:
                by_pair.setdefault((rate.cell_id, rate.slice_id), []).append(rate)

        def counted(value: float) -> Attribute:
            return Attribute(value, now_ns, period_ms, COUNTERS)

        for (cell_id, slice_id), group in by_pair.items():
            name = str(self._slices[slice_id].s_nssai)
            values = {"arrived_kbps": counted(sum(r.arrived_kbps for r in group))}
            own = [r.delivered_kbps for r in group if r.delivered_kbps is not None]
            if own:
                values["delivered_kbps"] = counted(sum(own))
                ratio = sum(own) / self._capacity_kbps[cell_id]
                values["utilisation_ratio"] = counted(ratio)
                power_w = self._power_w(name, cell_id, sum(own))
                if power_w is not None:
                    values["power_w"] = replace(counted(power_w), source=POWER_SOURCE)
            for twins, twin_id, suffix in (
                (self.slices, name, cell_id),
                (self.cells, cell_id, name),
            ):
                named = {f"{key}.{suffix}": value for key, value in values.items()}
                twins[twin_id] = updated(twins[twin_id], named, now_ns)
        for slice_id in {slice_id for _, slice_id in by_pair}:
            name = str(self._slices[slice_id].s_nssai)
            totals = rate_totals(self.slices[name], self._capacity_kbps, period_ms, now_ns)
            totals |= demand_shares(self.slices[name], FRESH_PERIODS * period_ms, now_ns)
            if (windows := self._satisfied.get(name)) is not None:
                totals["sla_satisfied_ratio"] = windows.attribute(now_ns)
            self.slices[name] = updated(self.slices[name], totals, now_ns)

    def forget_predictions(self, slice_id: int, attribute: str) -> None:
        """Of one attribute of the slice, everywhere: its model does not want them any more."""
        if slice_id not in self._slices:
            return
        name = str(self._slices[slice_id].s_nssai)
        self.slices[name] = _unpredicted(self.slices[name], lambda a: a.startswith(f"{attribute}."))
        for cell_id, twin in self.cells.items():
            self.cells[cell_id] = _unpredicted(twin, lambda a: a == f"{attribute}.{name}")

    def _power_w(self, name: str, cell_id: str, delivered_kbps: float) -> float | None:
        held = self.slices[name].attributes.get(f"min_kbps.{cell_id}")
        return slice_power_w(
            self._kinds[cell_id],
            delivered_kbps,
            (held.value or 0.0) if held else 0.0,
            self._capacity_kbps[cell_id],
        )

    def apply_services(self, loads: Sequence[ServiceLoad], period_ms: int, now_ns: int) -> None:
        """What task services did since the last poll."""
        for slice_id in {load.slice_id for load in loads} & self._slices.keys():
            name = str(self._slices[slice_id].s_nssai)
            own = [load for load in loads if load.slice_id == slice_id]
            changed = service_attributes(self.slices[name], own, period_ms, now_ns)
            self.slices[name] = updated(self.slices[name], changed, now_ns)

    def apply_prediction(self, cell_id: str, slice_id: int, prediction: Prediction) -> None:
        """A forecast of the slice's demand in the cell, beside the measured one.

        A median alone does not replace a forecast with quantiles that still holds.
        """
        if slice_id not in self._slices:  # it ended meanwhile
            return
        name = str(self._slices[slice_id].s_nssai)
        for twins, twin_id, suffix in ((self.slices, name, cell_id), (self.cells, cell_id, name)):
            twin = twins[twin_id]
            attribute = twin.attributes.get(f"demand_kbps.{suffix}")
            if attribute is not None and not _says_less(prediction, attribute.predicted):
                changed = {f"demand_kbps.{suffix}": replace(attribute, predicted=prediction)}
                twins[twin_id] = updated(twin, changed, prediction.made_at_ns)


def _says_less(new: Prediction, held: Prediction | None) -> bool:
    if held is None or not held.quantiles or new.quantiles:
        return False
    return new.made_at_ns - held.made_at_ns < (held.horizon_ms or 0) * 1_000_000


def _unpredicted(twin: Twin, concerns: Callable[[str], bool]) -> Twin:
    attributes = {
        name: replace(a, predicted=None) if concerns(name) else a
        for name, a in twin.attributes.items()
    }
    return replace(twin, attributes=attributes)
