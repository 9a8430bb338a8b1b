"""The packed history of a user's reports: what goes in comes out, and it is small."""

from __future__ import annotations

import random
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.contracts.twin_messages import UserReport
from controller.twins.record_layout import Layout, widened
from controller.twins.report_log import (
    ReportLog,
    log_of,
    report_of,
    row_of,
)
from tests.sample_reports import PERIOD_NS, sample_flow, sample_report


def finite(low: float, high: float) -> st.SearchStrategy[float]:
    rounded = st.floats(low, high).map(lambda x: min(max(round(x, 3), low), high))
    return st.one_of(st.floats(low, high), rounded)


flows = st.builds(
    sample_flow,
    service=st.sampled_from(["video", "maps"]),
    up=st.booleans(),
    demand_kbps=finite(0, 1e9),
    goodput_kbps=finite(0, 1e6),
    loss_ratio=finite(0, 1),
    owd_p95_ms=st.none() | finite(0, 60_000),
)
contents = st.fixed_dictionaries(
    {
        "cell_id": st.sampled_from(["ap1", "ap2"]),
        "rsrp_dbm": st.dictionaries(st.sampled_from(["ap1", "ap2"]), finite(-200, 50)),
        "position_m": st.none() | st.tuples(finite(-1e8, 1e8), finite(-1e8, 1e8)),
        "speed_mps": st.none() | finite(0, 1000),
        "snr_db": st.none() | finite(-200, 200),
        "cqi": st.none() | st.integers(0, 15),
        "flows": st.lists(flows, max_size=3),
        "settings_version": st.integers(0, 2**32 - 1),
        "batch_reports": st.integers(1, 32),
    }
)


def report(number: int, **changes: Any) -> UserReport:
    """The `number`th of a user, from 1, of window `number`."""
    return sample_report(number, sequence=number, **changes)


@given(st.lists(contents, min_size=1, max_size=60), st.integers(1, 80))
@settings(deadline=None)
def test_what_goes_in_comes_out_newest_last(documents: list[dict[str, Any]], length: int) -> None:
    reports = [report(number + 1, **d) for number, d in enumerate(documents)]
    log = log_of("ue1", reports, length)
    assert log.reports() == reports[-length:]
    assert len(log) == len(reports[-length:])
    assert [orjson.loads(entry)["sequence"] for entry in log] == log.sequences()


def test_every_field_of_a_report_is_kept() -> None:
    """A field that a message gains must be given a place in rows or shapes."""
    radio = {"rsrq_db": -9.5, "snr_db": 11.0, "cqi": 9, "down_kbps": 1e4, "up_kbps": 5.5}
    radio |= {"heading_deg": 90.5, "odometer_m": 12.25, "operations": 77}
    full = report(7, **radio, settings_version=3, batch_reports=4)
    unset = [name for name in UserReport.model_fields if getattr(full, name) is None]
    assert unset == []
    assert report_of("ue1", row_of(full)) == full


def test_a_longer_log_goes_on_and_a_shorter_one_forgets() -> None:
    log = ReportLog("ue1", 10)
    for number in range(1, 101):
        log = log.appended(row_of(report(number)), 50 if number < 100 else 20)
        assert len(log) == (min(number, 50) if number < 100 else 20)
    assert log.sequences() == list(range(81, 101))


def test_reports_of_a_thousand_shapes_are_still_bounded() -> None:
    log = ReportLog("ue1", 32)
    for number in range(1, 1001):
        log = log.appended(row_of(report(number, settings_version=number)), 32)
    assert log.sequences() == list(range(969, 1001))
    assert len(log.forms) <= 2 * 32


def test_alternating_shapes_cost_no_more() -> None:
    """A twin model may ask for the place in every second report only."""
    log = ReportLog("ue1", 200)
    for number in range(1, 201):
        place = (1.0 * number, 2.0) if number % 2 else None
        log = log.appended(row_of(report(number, position_m=place)), 200)
    assert log.sequences() == list(range(1, 201))
    assert log.packed_bytes / 200 < 40


@pytest.mark.parametrize("length", [8, 20, 60])
def test_the_newest_are_kept_whatever_their_shapes(length: int) -> None:
    """A first report without its place must not stand for a newer one, nor every third one."""
    chance = random.Random(length)
    for rare in (lambda n: n == 2, lambda n: n % 3 == 0, lambda _: chance.random() < 0.1):
        log = ReportLog("ue1", length)
        for number in range(1, 301):
            place = None if rare(number) else (1.0, 2.0)
            log = log.appended(row_of(report(number, position_m=place)), length)
            assert log.sequences() == list(range(max(1, number - length + 1), number + 1))


def test_a_minute_of_a_phone_is_a_few_kilobytes() -> None:
    noise = random.Random(1)
    log = ReportLog("ue1", 120)
    for number in range(1, 241):
        flow = [
            sample_flow(
                service=service,
                demand_kbps=round(noise.gauss(900, 60), 3),
                goodput_kbps=round(noise.gauss(800, 60), 3),
                owd_p95_ms=round(noise.uniform(1, 20), 3),
                loss_ratio=0.0,
            )
            for service in ("a", "b", "c", "d")
        ]
        at_ns = (number + 1) * PERIOD_NS + noise.randrange(10**6)
        made = report(number, flows=flow, measured_at_ns=at_ns)
        log = log.appended(row_of(made), 120)
    assert log.packed_bytes / 120 < 70


def test_a_log_that_was_read_stays_as_it_was() -> None:
    """Who sends a twin away goes on with what it took."""
    before = log_of("ue1", [report(number) for number in range(1, 11)], 10)
    after = before.appended(row_of(report(11)), 10)
    assert before.sequences() == list(range(1, 11))
    assert after.sequences() == list(range(2, 12))
    assert [r.sequence for r in after.reports(3)] == [9, 10, 11]


# -- layouts ----------------------------------------------------------------------------


def row(number: int, *doubles: float) -> bytes:
    return struct.pack(f"<2q{len(doubles)}d", number, 2**62 + number, *doubles)


def laid(rows: list[bytes]) -> Layout:
    layout = None
    for each in rows:
        layout = widened(layout, each)
    assert layout is not None
    return layout


@given(st.lists(st.tuples(finite(-1e12, 1e12), finite(-1e8, 1e8), st.integers(0, 2**53))))
@settings(deadline=None)
def test_rows_of_any_numbers_come_back(numbers: list[tuple[float, float, int]]) -> None:
    rows = [row(i, a, b, c) for i, (a, b, c) in enumerate(numbers)] or [row(1, 0.0, 0.0, 0.0)]
    layout = None
    for each in rows:
        layout = widened(layout, each)
        packed = layout.packed(each)
        assert packed is not None and len(packed) == layout.record_bytes <= 8 * 5
        assert struct.unpack("<2q3d", layout.row(packed)) == struct.unpack("<2q3d", each)


def test_a_row_that_does_not_fit_is_not_squeezed_in() -> None:
    layout = laid([row(1, 0.5, -80.25), row(8, 12.25, -95.0)])
    assert layout.packed(row(5, 7.75, -90.5)) is not None
    unlike = {"below": (5, 0.25, -90.0), "above": (5, 50.0, -90.0), "late": (99, 7.75, -90.0)}
    unlike |= {"finer": (5, 7.755, -90.0), "no steps": (5, 1 / 3, -90.0)}
    for why, numbers in unlike.items():
        other = row(*numbers)
        assert layout.packed(other) is None, why
        wider = widened(layout, other)
        again = wider.packed(other)
        assert again is not None and wider.row(again) == other, why
        inside = wider.packed(row(5, 7.75, -90.5))
        assert inside is not None and wider.row(inside) == row(5, 7.75, -90.5), why


def test_only_the_column_without_steps_is_stored_as_it_is() -> None:
    layout = laid([row(1, 1 / 3, -80.25, 100.0), row(2, 2 / 3, -80.5, 103.0)])
    assert layout.record_bytes <= 8 + 3
