"""Events of the stream about cells and slices, made of aggregates.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slices import Slice, TrafficClass
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.guard import SHARED_CLASSES
from controller.twins.level_two import MeasuredRate
from controller.twins.twin import Twin


def shown_reservation(slice_: Slice, live: Iterable[Reservation]) -> Reservation | None:
    """The slice's reservation that an xApp plans: its default class', else the largest."""
    own = [r for r in live if r.slice_id == slice_.slice_id]
    default = [r for r in own if r.traffic_class is slice_.default_class]
    return max(default or own, key=lambda r: r.min_kbps, default=None)


def planned_slices(inventory: Inventory, cell_id: str, live: Sequence[Reservation]) -> list[Slice]:
    """Slices that the cell covers and that can hold a reservation there."""
    return [
        s
        for s in inventory.slices
        if s.covers(cell_id)
        and (s.default_class not in SHARED_CLASSES or shown_reservation(s, live) is not None)
    ]


def with_counted_demand(
    aggregate: CellAggregate, rates: Mapping[tuple[str, int, TrafficClass], MeasuredRate]
) -> CellAggregate:
    """Where no user reports a flow of a slice but the switch meters packets of it, those count.

    Agents report the testbed's own flows; programs that people run in a user's
    namespace (in a slice made a minute ago, say) only the switches see.
    """
    return aggregate.model_copy(
        update={"slices": [_counted(d, aggregate.cell_id, rates) for d in aggregate.slices]}
    )


def _counted(
    demand: SliceDemand,
    cell_id: str,
    rates: Mapping[tuple[str, int, TrafficClass], MeasuredRate],
) -> SliceDemand:
    if demand.demand_kbps > 0:
        return demand
    here = [r for r in rates.values() if (r.cell_id, r.slice_id) == (cell_id, demand.slice_id)]
    arrived_kbps = sum(r.arrived_kbps for r in here)
    if arrived_kbps <= 0:
        return demand
    sent_kbps = sum(
        r.arrived_kbps if r.delivered_kbps is None else min(r.delivered_kbps, r.arrived_kbps)
        for r in here
    )
    return demand.model_copy(
        update={
            "demand_kbps": round(arrived_kbps, 3),
            "goodput_kbps": round(sent_kbps, 3),
            "loss_ratio": round(1 - sent_kbps / arrived_kbps, 6),
        }
    )


def cell_event(
    aggregate: CellAggregate,
    inventory: Inventory,
    reservations: Sequence[Reservation],
    received_at_ns: int,
) -> dict[str, Any]:
    """One `cell` event of the stream: every slice of the network, zero where nobody reports."""
    demands = {d.slice_id: d for d in aggregate.slices}
    capacity_kbps = inventory.cell(aggregate.cell_id).down_kbps
    slices = []
    for slice_ in planned_slices(inventory, aggregate.cell_id, reservations):
        demand = demands.get(slice_.slice_id) or SliceDemand(
            slice_id=slice_.slice_id,
            users=0,
            demand_kbps=0.0,
            goodput_kbps=0.0,
            loss_ratio=0.0,
            owd_p95_ms=None,
        )
        held = shown_reservation(slice_, reservations)
        slices.append(
            {
                **demand.model_dump(),
                "s_nssai": slice_.s_nssai.model_dump(),
                "traffic_class": (held.traffic_class if held else slice_.default_class).value,
                "reservation": {
                    "min_kbps": held.min_kbps if held else 0,
                    "max_kbps": held.max_kbps if held else capacity_kbps,
                },
            }
        )
    return {
        "kind": "cell",
        "id": aggregate.cell_id,
        "trace_id": aggregate.trace_id,
        "window": aggregate.window,
        "period_ms": aggregate.period_ms,
        "completed_at_ns": aggregate.completed_at_ns,
        "sent_at_ns": aggregate.sent_at_ns,
        "received_at_ns": received_at_ns,
        "users_reported": aggregate.users_reported,
        "users_expected": aggregate.users_expected,
        "capacity_kbps": capacity_kbps,
        "reservable_kbps": round(capacity_kbps * inventory.reservable_ratio),
        "slices": slices,
    }


def slice_event(twin: Twin, aggregate: CellAggregate) -> dict[str, Any]:
    """One `slice` event: the twin's values after this aggregate."""
    return {
        "kind": "slice",
        "id": twin.twin_id,
        "trace_id": aggregate.trace_id,
        "window": aggregate.window,
        "version": twin.version,
        "values": {name: a.value for name, a in twin.attributes.items()},
    }
