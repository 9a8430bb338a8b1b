"""What a fork does differently: documents, and what they mean for a network. Pure.

A strategy is resolved against the newest snapshot, at prediction and again when it is
applied: a plan that follows demand follows the demand of that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from controller.contracts.decisions import ReservationRequest
from controller.contracts.inventory import Reservation
from controller.contracts.slices import Strict, TrafficClass
from controller.guard import GuardLimits, slew_bounds_kbps
from controller.whatif.forecast import Futures, now_kbps
from controller.whatif.links import FloatArray
from controller.whatif.snapshot import Snapshot

LEAST_MIN_KBPS = 100
CEILING_RATIO = 1.3
CEILING_ROOM_KBPS = 600

Ratio = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
CellId = Annotated[str, Field(min_length=1, max_length=64)]


class StrategyError(ValueError):
    """A strategy that means nothing in this network; one line."""


class Hold(Strict):
    """Nothing is changed: what every other strategy is compared with."""

    kind: Literal["hold"] = "hold"


class Static(Strict):
    """The scenario's fixed split."""

    kind: Literal["static"] = "static"


class Proportional(Strict):
    """All that is reservable, in proportion to what is asked now."""

    kind: Literal["proportional"] = "proportional"


class Follow(Strict):
    """Each slice gets its forecast's upper quantile and a margin, while there is room."""

    kind: Literal["follow"] = "follow"
    margin_ratio: Ratio = 0.1


class Reserve(Strict):
    """These reservations; slices and cells that are not named keep what they hold."""

    kind: Literal["reserve"] = "reserve"
    cells: dict[CellId, Annotated[list[ReservationRequest], Field(min_length=1, max_length=64)]]


class Handover(Strict):
    """One user moves to another cell, its traffic with it."""

    kind: Literal["handover"] = "handover"
    ue_id: str
    cell_id: str


Strategy = Annotated[
    Hold | Static | Proportional | Follow | Reserve | Handover, Field(discriminator="kind")
]


@dataclass(frozen=True)
class Meaning:
    """Everything reserved afterwards, by cell, and who moves where."""

    plan: Mapping[str, tuple[Reservation, ...]]
    moves: Mapping[str, str]


def meaning(strategy: Strategy, snapshot: Snapshot, futures: Futures) -> Meaning:
    """Plans of policies go no further than the guard lets one decision go; what is asked for
    in so many words is left as it is, so that the guard's answer is heard.

    Raises `StrategyError`.
    """
    if isinstance(strategy, Hold):
        return Meaning(snapshot.plan, {})
    if isinstance(strategy, Handover):
        return Meaning(snapshot.plan, _moved(strategy, snapshot))
    if isinstance(strategy, Reserve):
        return Meaning(_reserved(strategy, snapshot), {})
    if isinstance(strategy, Static):
        if not any(snapshot.static_plan.values()):
            raise StrategyError("this scenario has no static_reservations")
        return Meaning(_merged(snapshot, _within_slew(snapshot, _only_static(snapshot))), {})
    if isinstance(strategy, Proportional):
        wanted = np.maximum(now_kbps(snapshot.demand_kbps), LEAST_MIN_KBPS)
        share = snapshot.reservable_kbps[:, None] / wanted.sum(axis=1, keepdims=True)
        return Meaning(_planned(snapshot, wanted * share), {})
    now = now_kbps(snapshot.demand_kbps)
    wanted = np.maximum(futures.careful_kbps * (1 + strategy.margin_ratio), LEAST_MIN_KBPS)
    return Meaning(_planned(snapshot, _fitted(now, wanted, snapshot.reservable_kbps)), {})


def _fitted(now: FloatArray, wanted: FloatArray, room_kbps: FloatArray) -> FloatArray:
    """First what is asked now, then what may come; each level in proportion when it is too much."""
    first = np.minimum(now, wanted)
    first = first * np.minimum(1.0, room_kbps / np.maximum(first.sum(axis=1), 1.0))[:, None]
    more = np.maximum(wanted - first, 0.0)
    left = np.maximum(room_kbps - first.sum(axis=1), 0.0)
    return np.asarray(
        first + more * np.minimum(1.0, left / np.maximum(more.sum(axis=1), 1e-9))[:, None]
    )


def _planned(snapshot: Snapshot, min_kbps: FloatArray) -> dict[str, tuple[Reservation, ...]]:
    plan = {}
    columns = snapshot.columns
    for row, (cell_id, link_kbps) in enumerate(zip(columns.cells, columns.link_kbps, strict=True)):
        reservations = []
        for column, (slice_id, traffic_class) in enumerate(columns.pairs):
            least = int(min_kbps[row, column])
            room = max(least * (CEILING_RATIO - 1), CEILING_ROOM_KBPS)
            most = least if traffic_class is TrafficClass.REAL_TIME else least + room
            reservations.append(
                Reservation(
                    slice_id=slice_id,
                    traffic_class=traffic_class,
                    min_kbps=least,
                    max_kbps=int(min(max(most, 12), link_kbps)),
                )
            )
        plan[cell_id] = tuple(reservations)
    return _merged(snapshot, _within_slew(snapshot, plan))


def _only_static(snapshot: Snapshot) -> dict[str, tuple[Reservation, ...]]:
    """The fixed split; what others hold now is given back, for decisions cannot end a queue."""
    own = {s.slice_id for s in snapshot.slices}
    plan = {}
    for cell_id, held in snapshot.plan.items():
        named = snapshot.static_plan.get(cell_id, ())
        pairs = {(r.slice_id, r.traffic_class) for r in named}
        others = tuple(
            r.model_copy(update={"min_kbps": 0})
            for r in held
            if r.slice_id in own and (r.slice_id, r.traffic_class) not in pairs
        )
        plan[cell_id] = (*named, *others)
    return plan


def _within_slew(
    snapshot: Snapshot, plan: Mapping[str, tuple[Reservation, ...]]
) -> dict[str, tuple[Reservation, ...]]:
    """As far towards the plan as one decision may go; a ceiling that is new may start anywhere."""
    limits, possible = GuardLimits(), {}
    for cell_id, wanted in plan.items():
        held = {(r.slice_id, r.traffic_class): r for r in snapshot.plan[cell_id]}
        found = []
        for r in wanted:
            old = held.get((r.slice_id, r.traffic_class))
            low, high = slew_bounds_kbps(old.min_kbps if old else 0, limits)
            least = min(max(r.min_kbps, low), high)
            most = max(r.max_kbps, least)
            if old is not None:
                low, high = slew_bounds_kbps(old.max_kbps, limits)
                most = min(max(most, low), high)
            update = {"min_kbps": min(least, most), "max_kbps": most}
            found.append(r.model_copy(update=update))
        possible[cell_id] = tuple(found)
    return possible


def _merged(
    snapshot: Snapshot, plan: Mapping[str, tuple[Reservation, ...]]
) -> dict[str, tuple[Reservation, ...]]:
    """What the plan does not name stays."""
    merged = {}
    for cell_id, held in snapshot.plan.items():
        by_pair = {(r.slice_id, r.traffic_class): r for r in held}
        by_pair |= {(r.slice_id, r.traffic_class): r for r in plan.get(cell_id, ())}
        merged[cell_id] = tuple(by_pair.values())
    return merged


def _reserved(strategy: Reserve, snapshot: Snapshot) -> dict[str, tuple[Reservation, ...]]:
    by_name = {s.s_nssai: s for s in snapshot.slices}
    plan: dict[str, tuple[Reservation, ...]] = {}
    for cell_id, wanted in strategy.cells.items():
        _known_cell(cell_id, snapshot)
        found = []
        for item in wanted:
            slice_ = by_name.get(item.s_nssai)
            if slice_ is None:
                known = ", ".join(str(s) for s in by_name)
                raise StrategyError(f"unknown slice {item.s_nssai}; slices: {known}")
            found.append(
                Reservation(
                    slice_id=slice_.slice_id,
                    traffic_class=item.traffic_class or slice_.default_class,
                    min_kbps=round(item.min_kbps),
                    max_kbps=round(item.max_kbps),
                )
            )
        plan[cell_id] = tuple(found)
    return _merged(snapshot, plan)


def _moved(strategy: Handover, snapshot: Snapshot) -> dict[str, str]:
    _known_cell(strategy.cell_id, snapshot)
    if strategy.ue_id not in snapshot.attachments:
        known = ", ".join(sorted(snapshot.attachments)[:20])
        raise StrategyError(f"unknown user {strategy.ue_id!r}; users: {known}")
    return {strategy.ue_id: strategy.cell_id}


def _known_cell(cell_id: str, snapshot: Snapshot) -> None:
    if cell_id not in snapshot.columns.cells:
        known = ", ".join(snapshot.columns.cells)
        raise StrategyError(f"unknown cell {cell_id!r}; cells: {known}")
