"""The live network as its twins have it at one moment: what every fork starts from.

`Mirror` follows the `cell` events that xApps read too, so a fork knows what an xApp may know
and nothing else: no scenario, no future demand, no ground truth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slices import BACKGROUND_SLICE_ID, Slice
from controller.whatif.calibration import Calibration
from controller.whatif.links import QUEUE_PACKETS, FloatArray
from controller.whatif.paths import Paths, paths_of
from controller.whatif.reservations import Columns, Pair

HISTORY_WINDOWS = 120
UNLOADED_RATIO = 0.8
"""A delay counts as one without a queue when demand was below this share of the reservation, and
has left so much of it idle that a full queue has gone."""
WARM_UP_WINDOWS = 8
"""So far before its newest window a fork begins, to have the queues and buckets of now."""
AGE_MOST_WINDOWS = 4
"""Of twins that report; silent ones say nothing of what came since."""
FULL_FRAME_BYTES = 1442


@dataclass(frozen=True)
class Seen:
    """One `cell` event, by slice in the inventory's order."""

    window: int
    demand_kbps: FloatArray
    goodput_kbps: FloatArray
    loss_ratio: FloatArray
    owd_p95_ms: FloatArray
    """NaN where no packet arrived."""
    users: FloatArray
    held: tuple[Reservation, ...]


@dataclass(frozen=True)
class Snapshot:
    """Everything a prediction needs; small and picklable.

    `demand_kbps`, `users` [window, cell, slice], oldest first, `period_ms` apart;
    `age_ms`: since the newest window's end; `unqueued_ms` [cell, slice]: one-way delay without a
    queue, as twins showed it; `user_kbps`: ue_id -> slice_id -> demand.
    """

    taken_at_ns: int
    window: int
    age_ms: float
    period_ms: int
    columns: Columns
    slices: tuple[Slice, ...]
    plan: Mapping[str, tuple[Reservation, ...]]
    """In force now."""
    plans: tuple[Mapping[str, tuple[Reservation, ...]], ...]
    """What was held at the end of each of the last `WARM_UP_WINDOWS`."""
    static_plan: Mapping[str, tuple[Reservation, ...]]
    demand_kbps: FloatArray
    users: FloatArray
    unqueued_ms: FloatArray
    best_effort_kbps: FloatArray
    attachments: Mapping[str, str]
    paths: Paths
    user_kbps: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def reservable_kbps(self) -> FloatArray:
        return np.asarray(self.columns.link_kbps) * self.columns.reservable_ratio

    def with_users(self, user_kbps: Mapping[str, Mapping[int, float]]) -> Snapshot:
        return replace(self, user_kbps=user_kbps)


@dataclass(frozen=True)
class Site:
    """What does not change while a network runs, as forks need it."""

    columns: Columns
    slices: tuple[Slice, ...]
    static_plan: Mapping[str, tuple[Reservation, ...]]
    paths: Paths
    period_ms: int

    @classmethod
    def of(cls, inventory: Inventory, packet_bytes: float) -> Site:
        """A column for each slice's default class, in the inventory's order."""
        pairs: list[Pair] = [(s.slice_id, s.default_class) for s in inventory.slices]
        columns = Columns(
            [c.cell_id for c in inventory.cells],
            [float(c.down_kbps) for c in inventory.cells],
            pairs,
            [8 * packet_bytes] * len(pairs) + [8.0 * FULL_FRAME_BYTES],
            inventory.reservable_ratio,
        )
        return cls(
            columns,
            tuple(inventory.slices),
            {c.cell_id: tuple(c.reservations) for c in inventory.static_reservations},
            paths_of(inventory),
            inventory.twins.report_period_ms,
        )


def seen(event: Mapping[str, Any], slices: Sequence[Slice]) -> Seen:
    """A `cell` event of the stream as arrays."""
    by_id = {item["slice_id"]: item for item in event["slices"]}
    rows = [by_id.get(s.slice_id, {}) for s in slices]

    def column(name: str) -> FloatArray:
        return np.array([float(row.get(name) or 0.0) for row in rows])

    owd = [row.get("owd_p95_ms") for row in rows]
    return Seen(
        int(event["window"]),
        column("demand_kbps"),
        column("goodput_kbps"),
        column("loss_ratio"),
        np.array([np.nan if value is None else float(value) for value in owd]),
        column("users"),
        tuple(r for s, row in zip(slices, rows, strict=True) for r in _held(s, row)),
    )


def _held(slice_: Slice, row: Mapping[str, Any]) -> list[Reservation]:
    """One, or none: who holds nothing is not limited by it either."""
    held = row.get("reservation", {"min_kbps": 0})
    least = held["min_kbps"]
    most = held.get("max_kbps", least)
    if least <= 0:
        return []
    return [
        Reservation(
            slice_id=slice_.slice_id,
            traffic_class=slice_.default_class,
            min_kbps=least,
            max_kbps=most,
        )
    ]


class Mirror:
    """The last windows of every cell, kept in step with the live network by its events."""

    def __init__(self, site: Site, calibration: Calibration) -> None:
        self._site = site
        self._calibration = calibration
        self.slices = site.slices
        cells = site.columns.cells
        self._rings: dict[str, deque[Seen]] = {c: deque(maxlen=HISTORY_WINDOWS) for c in cells}
        self._unqueued_ms = {c: np.full(len(site.slices), np.nan) for c in cells}
        self._idle_bits = {c: np.zeros(len(site.slices)) for c in cells}
        self._full_queue_bits = QUEUE_PACKETS * np.array(site.columns.packet_bits[:-1])
        self._arrived_kbps: dict[tuple[str, int], float] = {}
        self.period_ms = site.period_ms
        self.events = 0

    def follow(self, event: Mapping[str, Any]) -> None:
        """A `cell` event, in the order of their windows; late ones change nothing."""
        ring = self._rings.get(str(event["id"]))
        if ring is None or (ring and ring[-1].window >= event["window"]):
            return
        self.events += 1
        self.period_ms = int(event["period_ms"])
        now = seen(event, self.slices)
        ring.append(now)
        self._learn_unqueued(str(event["id"]), now)

    def _learn_unqueued(self, cell_id: str, now: Seen) -> None:
        held = {r.slice_id: float(r.min_kbps) for r in now.held}
        held_kbps = np.array([held.get(s.slice_id, 0.0) for s in self.slices])
        unloaded = (now.demand_kbps < UNLOADED_RATIO * held_kbps) & (now.loss_ratio == 0)
        before = self._idle_bits[cell_id]
        calm = unloaded & (before >= self._full_queue_bits)
        idle = (held_kbps - now.demand_kbps) * self.period_ms
        self._idle_bits[cell_id] = np.where(unloaded, before + idle, 0.0)
        known = self._unqueued_ms[cell_id]
        # The least of p95s, slowly forgotten: one calm window tells what the path needs.
        fresh = np.where(calm, now.owd_p95_ms, np.nan)
        self._unqueued_ms[cell_id] = np.where(np.isnan(fresh), known, np.fmin(known * 1.02, fresh))

    def count(self, cell_id: str, slice_id: int, arrived_kbps: float) -> None:
        """What a switch counted of a class, all users together."""
        self._arrived_kbps[cell_id, slice_id] = arrived_kbps

    @property
    def is_ready(self) -> bool:
        return all(self._rings.values())

    @property
    def newest_window(self) -> int | None:
        return max((ring[-1].window for ring in self._rings.values() if ring), default=None)

    def last_windows(self, cell_id: str, after: int) -> list[Seen]:
        return [item for item in self._rings[cell_id] if item.window > after]

    def snapshot(
        self,
        now_ns: int,
        plan: Mapping[str, Sequence[Reservation]],
        attachments: Mapping[str, str],
    ) -> Snapshot:
        """ValueError before every cell has reported once."""
        if not self.is_ready:
            silent = [cell for cell, ring in self._rings.items() if not ring]
            raise ValueError(f"no twin data of {', '.join(silent)} yet")
        newest = max(ring[-1].window for ring in self._rings.values())
        cells = list(self._rings)
        demand = np.stack([self._series(c, newest, "demand_kbps") for c in cells], axis=1)
        users = np.stack([self._series(c, newest, "users") for c in cells], axis=1)
        unqueued = np.stack([self._unqueued_ms[c] for c in cells])
        calm = self._calibration.unqueued_ms(self._site.paths, 0.95)
        unqueued = np.where(np.isnan(unqueued), calm, unqueued)
        age_ms = now_ns / 1e6 - (newest + 1) * self.period_ms
        held = {c: self._windows(c, newest)[-WARM_UP_WINDOWS:] for c in cells}
        return Snapshot(
            now_ns,
            newest,
            float(np.clip(age_ms, 0.0, AGE_MOST_WINDOWS * self.period_ms)),
            self.period_ms,
            self._site.columns,
            self.slices,
            {c: tuple(plan.get(c, ())) for c in cells},
            tuple({c: held[c][i].held for c in cells} for i in range(WARM_UP_WINDOWS)),
            self._site.static_plan,
            demand,
            users,
            unqueued,
            np.array([self._arrived_kbps.get((c, BACKGROUND_SLICE_ID), 0.0) for c in cells]),
            dict(attachments),
            self._site.paths,
        )

    def _series(self, cell_id: str, newest: int, name: str) -> FloatArray:
        """[window, slice]."""
        return np.stack([getattr(item, name) for item in self._windows(cell_id, newest)])

    def _windows(self, cell_id: str, newest: int) -> list[Seen]:
        """`HISTORY_WINDOWS` of them up to `newest`; gaps repeat what was before."""
        ring = list(self._rings[cell_id])
        windows = np.array([item.window for item in ring])
        wanted = np.arange(newest - HISTORY_WINDOWS + 1, newest + 1)
        places = np.clip(np.searchsorted(windows, wanted, side="right") - 1, 0, None)
        return [ring[place] for place in places]
