"""Which datagrams become twin updates: every rule a report must pass, in order.

Pure.  A datagram that fails a rule is counted under that rule's name and changes
nothing; the clock and what was seen before are arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from controller.contracts.inventory import Inventory
from controller.contracts.twin_messages import MAX_REPORT_BYTES, UserReport

MAX_CLOCK_ERROR_NS = 5_000_000_000
_SCHEMA = TypeAdapter(UserReport)
_slice_id = attrgetter("slice_id")
_RANGE_ERRORS = {"greater_than_equal", "less_than_equal", "less_than"}


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


class LastReport(NamedTuple):
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
        report = _SCHEMA.validate_json(datagram, strict=True)
    except ValidationError as error:
        return _reason(error, datagram, source_ip, roster)
    known = _sender(report.ue_id, source_ip, roster)
    if isinstance(known, Rejection):
        return known
    if report.window != report.measured_at_ns // (report.period_ms * 1_000_000) - 1:
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


def _sender(ue_id: str, source_ip: str, roster: Roster) -> KnownUser | Rejection:
    known = roster.users.get(ue_id)
    if known is None:
        return Rejection.UNKNOWN_USER
    return known if known.ip == source_ip else Rejection.SPOOFED


def _reason(error: ValidationError, datagram: bytes, source_ip: str, roster: Roster) -> Rejection:
    """Of a datagram that the schema refuses: who sent it counts before what it says."""
    faults = {e["type"] for e in error.errors(include_input=False, include_url=False)}
    if not faults <= {*_RANGE_ERRORS, "finite_number"}:
        return Rejection.MALFORMED
    sender = _sender(from_json(datagram)["ue_id"], source_ip, roster)
    if isinstance(sender, Rejection):
        return sender
    return Rejection.NOT_FINITE if "finite_number" in faults else Rejection.OUT_OF_RANGE


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
        and known.slice_ids.issuperset(map(_slice_id, report.flows))
    )
