"""Which datagrams become twin updates: every rule a report must pass, in order.

Pure.  A datagram that fails a rule is counted under that rule's name and changes
nothing; the clock and what was seen before are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from controller.contracts.inventory import Inventory
from controller.contracts.twin_messages import (
    MAX_BATCH_REPORTS,
    MAX_REPORT_BYTES,
    MAX_REPORT_PERIOD_MS,
    MIN_REPORT_PERIOD_MS,
    UserReport,
)

MAX_CLOCK_ERROR_NS = 5_000_000_000
MAX_SEQUENCE = 2**53
MAX_RATE_KBPS = 1e9
RSRP_RANGE_DBM = (-200.0, 50.0)


class Rejection(StrEnum):
    """Why a datagram changed nothing."""

    OVERSIZED = "oversized"
    """Longer than `MAX_REPORT_BYTES`."""
    MALFORMED = "malformed"
    """Not JSON, or not the schema of `UserReport`."""
    UNKNOWN_USER = "unknown_user"
    SPOOFED = "spoofed"
    """Not sent from the user's own infrastructure address."""
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    """A number no user can have measured, or a window that is not the last whole one."""
    STALE = "stale"
    """Measured more than 5 s ago."""
    FUTURE = "future"
    """Measured more than 5 s ahead."""
    REPLAYED = "replayed"
    """Sequence or time of measurement not above the last accepted."""
    MISMATCHED = "mismatched"
    """The inventory has no such cell, or knows the user with another kind or slice."""
    FOREIGN_CELL = "foreign_cell"
    """Of a user that neither says nor is known to be in a cell of this edge."""


@dataclass(frozen=True, slots=True)
class KnownUser:
    ip: str
    kind: str
    slice_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Roster:
    """Who may report, and about which cells."""

    users: Mapping[str, KnownUser]
    cell_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class LastReport:
    """Kept per user also when its twin is gone, so that old reports stay replays."""

    sequence: int
    measured_at_ns: int


def roster_of(inventory: Inventory) -> Roster:
    users = {
        u.ue_id: KnownUser(u.infrastructure_ip, u.kind, frozenset(s.slice_id for s in u.sessions))
        for u in inventory.users
    }
    return Roster(users, frozenset(c.cell_id for c in inventory.cells))


def admit(
    datagram: bytes,
    source_ip: str,
    roster: Roster,
    last_reports: Mapping[str, LastReport],
    now_ns: int,
) -> UserReport | Rejection:
    """The report in `datagram`, or the first rule it breaks."""
    if len(datagram) > MAX_REPORT_BYTES:
        return Rejection.OVERSIZED
    try:
        report = UserReport.model_validate_json(datagram, strict=True)
    except ValidationError:
        return Rejection.MALFORMED
    known = roster.users.get(report.ue_id)
    if known is None:
        return Rejection.UNKNOWN_USER
    if known.ip != source_ip:
        return Rejection.SPOOFED
    if not all(map(math.isfinite, _numbers(report))):
        return Rejection.NOT_FINITE
    if not _is_in_range(report):
        return Rejection.OUT_OF_RANGE
    if report.measured_at_ns < now_ns - MAX_CLOCK_ERROR_NS:
        return Rejection.STALE
    if report.measured_at_ns > now_ns + MAX_CLOCK_ERROR_NS:
        return Rejection.FUTURE
    last = last_reports.get(report.ue_id)
    if last is not None and _is_replay(report, last):
        return Rejection.REPLAYED
    if not _matches(report, known, roster):
        return Rejection.MISMATCHED
    return report


def serving_cell(
    report: UserReport, attachment: tuple[str, int] | None, own_cell_ids: Collection[str]
) -> str | None:
    """Which of this edge's cells serves the user; None: none does.

    The newer evidence wins: a report measured after the attachment (cell, since ns)
    names the cell; around a handover an older report still names the cell before.
    """
    if attachment is not None and report.measured_at_ns <= attachment[1]:
        return attachment[0]
    if report.cell_id in own_cell_ids:
        return report.cell_id
    return attachment[0] if attachment is not None else None


def _is_replay(report: UserReport, last: LastReport) -> bool:
    return report.sequence <= last.sequence or report.measured_at_ns <= last.measured_at_ns


def _matches(report: UserReport, known: KnownUser, roster: Roster) -> bool:
    return (
        report.kind == known.kind
        and report.cell_id in roster.cell_ids
        and roster.cell_ids.issuperset(report.rsrp_dbm)
        and all(flow.slice_id in known.slice_ids for flow in report.flows)
    )


def _numbers(report: UserReport) -> Iterator[float]:
    if report.speed_mps is not None:
        yield report.speed_mps
    yield from report.position_m or ()
    yield from report.rsrp_dbm.values()
    for flow in report.flows:
        yield from (flow.demand_kbps, flow.goodput_kbps, flow.loss_ratio)
        if flow.owd_p95_ms is not None:
            yield flow.owd_p95_ms


def _is_in_range(report: UserReport) -> bool:
    if not MIN_REPORT_PERIOD_MS <= report.period_ms <= MAX_REPORT_PERIOD_MS:
        return False
    period_ns = report.period_ms * 1_000_000
    low_dbm, high_dbm = RSRP_RANGE_DBM
    return (
        1 <= report.sequence <= MAX_SEQUENCE
        and report.window == report.measured_at_ns // period_ns - 1
        and (report.speed_mps is None or report.speed_mps >= 0)
        and 1 <= report.batch_reports <= MAX_BATCH_REPORTS
        and all(low_dbm <= dbm <= high_dbm for dbm in report.rsrp_dbm.values())
        and all(
            0 <= flow.demand_kbps <= MAX_RATE_KBPS
            and 0 <= flow.goodput_kbps <= MAX_RATE_KBPS
            and 0 <= flow.loss_ratio <= 1
            and (flow.owd_p95_ms is None or flow.owd_p95_ms >= 0)
            for flow in report.flows
        )
    )
