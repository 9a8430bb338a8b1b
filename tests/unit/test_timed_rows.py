"""Rows of numbers over time: what goes in comes out, however long a user is here."""

from __future__ import annotations

import pytest

from controller.local.timed_rows import LONGEST_MS, TimedRows

MS = 1_000_000
START_NS = 1_700_000_000_123 * MS


def rows_of(*at_ms: int) -> TimedRows[str]:
    rows: TimedRows[str] = TimedRows(1)
    rows.change_names(("a", "b"))
    for ms in at_ms:
        rows.append(START_NS + ms * MS, (0.5,), (float(ms), -1.0))
    return rows


def test_rows_come_out_as_they_went_in() -> None:
    rows = rows_of(0, 40, 95)
    assert (rows.times_ns() - START_NS).tolist() == [0, 40 * MS, 95 * MS]
    assert rows.column("a").tolist() == [0, 40, 95]
    assert rows.column("nobody's").tolist() == [0, 0, 0]
    assert rows.newest_ns == START_NS + 95 * MS
    assert [*rows.newest] == [0.5, 95.0, -1.0]
    assert rows.matrix()[:, 1].tolist() == [0.5] * 3


def test_whole_milliseconds_stay_exact_for_days() -> None:
    """Single precision would be off by a ms after hours, and by seconds after weeks."""
    rows = rows_of()
    hour_ms, period_ms = 3_600_000, 997
    for ms in range(0, 30 * hour_ms, 60_000 - 3):
        rows.append(START_NS + ms * MS, (0.0,), (0.0, 0.0))
        rows.append(START_NS + (ms + period_ms) * MS, (0.0,), (0.0, 0.0))
        rows.forget_before(START_NS + (ms - 60_000) * MS)
        assert rows.newest_ns == START_NS + (ms + period_ms) * MS
        assert rows.times_ns()[-2] == START_NS + ms * MS
        assert rows.numbers[-3] <= LONGEST_MS + 120_000


def test_what_is_older_goes_and_the_rest_stays() -> None:
    rows = rows_of(0, 40, 80, 120)
    rows.forget_before(START_NS + 80 * MS)
    assert rows.column("a").tolist() == [80, 120]
    rows.keep_newest(1)
    assert rows.column("a").tolist() == [120]
    rows.forget_before(START_NS + 1000 * MS)
    assert len(rows) == 0
    with pytest.raises(IndexError):
        _ = rows.newest_ns


def test_names_come_and_go() -> None:
    rows = rows_of(0, 40)
    rows.change_names(("b", "c"))
    assert rows.column("b").tolist() == [-1, -1]
    assert rows.column("c").tolist() == rows.column("a").tolist() == [0, 0]
    rows.append(START_NS + 80 * MS, (0.5,), (7.0, 8.0))
    assert rows.column("c").tolist() == [0, 0, 8]


def test_the_highest_is_of_later_rows_only() -> None:
    rows: TimedRows[str] = TimedRows(0)
    rows.change_names(("a", "b"))
    for step, kbps in enumerate((900.0, 300.0, 500.0, 420.0)):
        rows.append(START_NS + 500 * step * MS, (), (kbps, -1.0))
    first_ns = int(rows.times_ns()[0])
    assert rows.highest_after(first_ns) == {"a": 500.0, "b": -1.0}
    assert rows.highest_after(first_ns + 1000 * MS) == {"a": 420.0, "b": -1.0}
    assert rows.highest_after(rows.newest_ns) == {}
