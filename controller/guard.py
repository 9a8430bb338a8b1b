"""The guard: which well-formed decisions may touch the network, and why the others may not.

Pure functions on plain data; clock, limits and the cell's live reservations are
arguments, and nothing here changes anything.  Types, finiteness and signs are
the schema's work (`contracts/decisions.py`); enforcement comes after the guard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.network_state import shaped

ReservationKey = tuple[int, TrafficClass]
"""(slice_id, traffic_class): what holds a queue and a meter in a cell."""

MIN_QUEUE_KBPS = 12
"""OVS refuses to shape an HTB class below 12 kbit/s."""
SHARES_TOLERANCE = 1e-6
"""Three thirds are 1."""
SHARED_CLASSES = frozenset({TrafficClass.CONTROL, TrafficClass.BEST_EFFORT})
"""Their queue is shared by all slices, so one slice cannot reserve in it."""


@dataclass(frozen=True)
class GuardLimits:
    """How fast and how far decisions may go.

    A reservation may change by at most `slew_ratio` of its old value plus
    `slew_floor_kbps` in one decision.  Bursts are in decisions.
    """

    slew_ratio: float = 1.0
    slew_floor_kbps: int = 2000
    xapp_rate_per_s: float = 6.0
    xapp_burst: float = 12.0
    cell_rate_per_s: float = 2.2
    """Every OVSDB change stalls userspace forwarding: about two a second and cell."""
    cell_burst: float = 3.0
    user_interval_ms: int = 500
    """Between two handovers of one user."""


@dataclass(frozen=True)
class Rejection:
    """`rule` is the guard's rule that failed; `reason` says so with the numbers."""

    rule: str
    reason: str


@dataclass(frozen=True)
class CellView:
    """A cell as the guard sees it; `reservations` are the live ones."""

    cell_id: str
    capacity_kbps: int
    reservable_ratio: float
    reservations: Mapping[ReservationKey, Reservation]

    @property
    def reservable_kbps(self) -> int:
        return round(self.capacity_kbps * self.reservable_ratio)


@dataclass(frozen=True)
class Basis:
    """What a decision rests on: when its twin data were complete (None: it names none)."""

    twin_completed_ns: int | None
    valid_for_ms: int
    now_ns: int


@dataclass(frozen=True)
class TargetOrder:
    """Order of decisions on one target.  `sequence` counts arrivals at the RIC."""

    sequence: int
    newest_sequence: int
    twin_completed_ns: int | None
    applied_twin_completed_ns: int | None


@dataclass(frozen=True)
class TokenBucket:
    """A rate limit as a value: `take` returns the bucket after, and whether a token was there."""

    rate_per_s: float
    burst: float
    tokens: float
    refilled_at_s: float

    @classmethod
    def full(cls, rate_per_s: float, burst: float, now_s: float) -> TokenBucket:
        return cls(rate_per_s, burst, burst, now_s)

    def take(self, now_s: float) -> tuple[TokenBucket, bool]:
        elapsed_s = max(0.0, now_s - self.refilled_at_s)
        tokens = min(self.burst, self.tokens + elapsed_s * self.rate_per_s)
        allowed = tokens >= 1.0
        return replace(self, tokens=tokens - allowed, refilled_at_s=now_s), allowed


def key_of(reservation: Reservation) -> ReservationKey:
    return reservation.slice_id, reservation.traffic_class


def merged(
    live: Mapping[ReservationKey, Reservation], changes: Sequence[Reservation]
) -> dict[ReservationKey, Reservation]:
    """The cell's reservations as they would be after `changes`."""
    return {**live, **{key_of(change): change for change in changes}}


def check_bounds(cell: CellView, changes: Sequence[Reservation]) -> Rejection | None:
    """0 <= min <= max <= capacity, the ceiling shapeable, each (slice, class) once and its own."""
    keys = [key_of(change) for change in changes]
    for change in changes:
        where = f"slice {change.slice_id} {change.traffic_class.value} on {cell.cell_id}"
        if change.traffic_class in SHARED_CLASSES:
            return Rejection("bounds", f"{where}: this class has one queue for all slices")
        if keys.count(key_of(change)) > 1:
            return Rejection("bounds", f"{where}: reserved twice in one decision")
        if not MIN_QUEUE_KBPS <= change.max_kbps <= cell.capacity_kbps:
            return Rejection(
                "bounds",
                f"{where}: max {change.max_kbps} kbit/s outside "
                f"{MIN_QUEUE_KBPS}-{cell.capacity_kbps} (the cell's capacity)",
            )
        if not 0 <= change.min_kbps <= change.max_kbps:
            return Rejection(
                "bounds",
                f"{where}: min {change.min_kbps} kbit/s outside 0-{change.max_kbps} (its max)",
            )
        if shaped(change).max_kbps < MIN_QUEUE_KBPS:
            return Rejection(
                "bounds",
                f"{where}: min {change.min_kbps} kbit/s would be its ceiling too (real-time queues "
                f"do not borrow), at least {MIN_QUEUE_KBPS}",
            )
    return None


def slew_bounds_kbps(old_kbps: int, limits: GuardLimits) -> tuple[int, int]:
    """Lowest and highest value one decision may move `old_kbps` to."""
    step_kbps = int(old_kbps * limits.slew_ratio) + limits.slew_floor_kbps
    return max(0, old_kbps - step_kbps), old_kbps + step_kbps


def check_slew(
    cell: CellView, changes: Sequence[Reservation], limits: GuardLimits
) -> Rejection | None:
    """No guaranteed or maximum rate may jump; a new (slice, class) starts from 0.

    What counts is what would be enforced: a real-time pair's ceiling is its guarantee.
    """
    for change in map(shaped, changes):
        old = cell.reservations.get(key_of(change))
        # A ceiling that did not exist yet constrained nothing, so it may start anywhere.
        old_max_kbps = old.max_kbps if old else change.max_kbps
        for term, old_kbps, new_kbps in (
            ("min", old.min_kbps if old else 0, change.min_kbps),
            ("max", old_max_kbps, change.max_kbps),
        ):
            low_kbps, high_kbps = slew_bounds_kbps(old_kbps, limits)
            if not low_kbps <= new_kbps <= high_kbps:
                return Rejection(
                    "slew",
                    f"slice {change.slice_id} {change.traffic_class.value} on {cell.cell_id}: "
                    f"{term} {old_kbps} -> {new_kbps} kbit/s in one decision; "
                    f"at most {low_kbps}-{high_kbps}",
                )
    return None


def check_admission(cell: CellView, changes: Sequence[Reservation]) -> Rejection | None:
    """The cell's guaranteed rates together must fit what may be reserved."""
    before_kbps = sum(r.min_kbps for r in cell.reservations.values())
    after_kbps = sum(r.min_kbps for r in merged(cell.reservations, changes).values())
    if after_kbps <= cell.reservable_kbps:
        return None
    return Rejection(
        "admission",
        f"{cell.cell_id}: minima would sum to {after_kbps} kbit/s (now {before_kbps}), reservable "
        f"{cell.reservable_kbps} ({cell.reservable_ratio:g} of {cell.capacity_kbps})",
    )


def check_staleness(basis: Basis) -> Rejection | None:
    """A decision that rests on twin data older than it says it is valid for comes too late."""
    if basis.twin_completed_ns is None:
        return None
    age_ms = (basis.now_ns - basis.twin_completed_ns) / 1e6
    if age_ms <= basis.valid_for_ms:
        return None
    return Rejection(
        "stale", f"based on a twin {age_ms:.0f} ms old, valid for {basis.valid_for_ms} ms"
    )


def check_superseded(order: TargetOrder) -> Rejection | None:
    """A newer decision for the same target waits, or one on newer twin data was applied."""
    if order.sequence < order.newest_sequence:
        return Rejection("superseded", "a newer decision for the same target arrived")
    mine, applied = order.twin_completed_ns, order.applied_twin_completed_ns
    if mine is not None and applied is not None and mine < applied:
        older_ms = (applied - mine) / 1e6
        return Rejection(
            "superseded",
            f"a decision on twin data {older_ms:.0f} ms newer was already applied to this target",
        )
    return None


def check_order(basis: Basis, order: TargetOrder) -> Rejection | None:
    """What every decision must pass, whatever it is about."""
    return check_superseded(order) or check_staleness(basis)


def check_reserve(
    cell: CellView,
    changes: Sequence[Reservation],
    basis: Basis,
    order: TargetOrder,
    limits: GuardLimits,
) -> Rejection | None:
    """Every rule for a reservation except the rate limits, in order; the first failure wins."""
    return (
        check_order(basis, order)
        or check_bounds(cell, changes)
        or check_slew(cell, changes, limits)
        or check_admission(cell, changes)
    )


def check_handover(
    serving_cell_id: str,
    target_cell_id: str,
    basis: Basis,
    order: TargetOrder,
    since_last_ms: float | None,
    limits: GuardLimits,
) -> Rejection | None:
    """Every rule for a handover; `since_last_ms`: since this user's last one (None: never)."""
    if rejection := check_order(basis, order):
        return rejection
    if serving_cell_id == target_cell_id:
        return Rejection("no_change", f"the user is already served by {target_cell_id}")
    if since_last_ms is not None and since_last_ms < limits.user_interval_ms:
        return Rejection(
            "rate",
            f"the user's last handover was {since_last_ms:.0f} ms ago; "
            f"at least {limits.user_interval_ms} ms between two",
        )
    return None


@dataclass(frozen=True)
class ServerView:
    """A server that a service wants to move to. `memory_bytes` None: no limit."""

    host: str
    used_bytes: int
    memory_bytes: int | None


def check_migrate(
    service: str,
    state_bytes: int,
    serving_host: str,
    server: ServerView,
    basis: Basis,
    order: TargetOrder,
) -> Rejection | None:
    """Every rule for a migration; the first failure wins."""
    if rejection := check_superseded(order) or check_staleness(basis):
        return rejection
    if serving_host == server.host:
        return Rejection("no_change", f"{service} runs in {server.host} already")
    needed_bytes = server.used_bytes + state_bytes
    if server.memory_bytes is not None and needed_bytes > server.memory_bytes:
        return Rejection(
            "capacity",
            f"{server.host} is full: {service} needs {state_bytes} bytes, "
            f"{server.memory_bytes - server.used_bytes} of {server.memory_bytes} are free",
        )
    return None


def check_schedule(shares: Mapping[str, float]) -> Rejection | None:
    """Shares of one slice are of the same whole."""
    total = sum(shares.values())
    if total <= 1 + SHARES_TOLERANCE:
        return None
    return Rejection("bounds", f"shares sum to {total:.3f}; at most 1")


def check_migrate_twin(ue_id: str, serving_edge: str, edge: str) -> Rejection | None:
    if serving_edge == edge:
        return Rejection("no_change", f"the twin of {ue_id} lives at {edge} already")
    return None


def check_offload(service: str, place: str, to: str) -> Rejection | None:
    if place == to:
        return Rejection("no_change", f"tasks for {service} are worked on at {to} already")
    return None
