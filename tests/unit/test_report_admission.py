"""One failure per rule that a report must pass before it changes a twin."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.contracts.twin_messages import MAX_REPORT_BYTES, UserReport
from controller.local.admission import (
    KnownUser,
    LastReport,
    Rejection,
    Roster,
    admit,
    serving_cell,
)
from tests.sample_reports import T0_NS, encoded, sample_report

SOURCE = "10.0.1.1"
ROSTER = Roster(
    {
        "ue1": KnownUser(SOURCE, "phone", frozenset({1})),
        "ue2": KnownUser("10.0.1.2", "phone", frozenset({1})),
    },
    frozenset({"ap1", "ap2"}),
)
NOW_NS = T0_NS + 3_000_000


def verdict(
    payload: bytes, last: LastReport | None = None, now_ns: int = NOW_NS, source: str = SOURCE
) -> UserReport | Rejection:
    return admit(payload, source, ROSTER, {} if last is None else {"ue1": last}, now_ns)


def changed(path: list[Any], value: Any) -> bytes:
    """The sample report's JSON with one place changed, NaN and infinity as bare words."""
    document = orjson.loads(encoded(sample_report()))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "@"
    return orjson.dumps(document).replace(b'"@"', str(value).encode())


def test_a_good_report_is_admitted_unchanged() -> None:
    assert verdict(encoded(sample_report())) == sample_report()


def test_a_report_of_the_largest_size_is_admitted_and_one_byte_more_is_not() -> None:
    payload = encoded(sample_report())
    padded = payload + b" " * (MAX_REPORT_BYTES - len(payload))
    assert isinstance(verdict(padded), UserReport)
    assert verdict(padded + b" ") is Rejection.OVERSIZED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b"{}",
        changed(["sequence"], '"7"'),
        changed(["speed_mps"], '"fast"'),
        changed(["surprise"], 1),
        changed(["position_m"], "[1]"),
        encoded(sample_report())[:-1],
    ],
)
def test_what_is_not_a_report_is_malformed(payload: bytes) -> None:
    assert verdict(payload) is Rejection.MALFORMED


def test_an_unknown_user_is_refused() -> None:
    assert verdict(encoded(sample_report(ue_id="ue9"))) is Rejection.UNKNOWN_USER


def test_another_users_address_is_spoofed() -> None:
    assert verdict(encoded(sample_report()), source="10.0.1.2") is Rejection.SPOOFED


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "path",
    [
        ["speed_mps"],
        ["rsrq_db"],
        ["snr_db"],
        ["down_kbps"],
        ["up_kbps"],
        ["position_m", 1],
        ["rsrp_dbm", "ap1"],
        ["flows", 0, "demand_kbps"],
        ["flows", 0, "goodput_kbps"],
        ["flows", 0, "loss_ratio"],
        ["flows", 0, "owd_p95_ms"],
    ],
)
def test_no_number_may_be_infinite_or_nan(path: list[Any], value: str) -> None:
    assert verdict(changed(path, value)) is Rejection.NOT_FINITE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["period_ms"], 19),
        (["period_ms"], 60_001),
        (["sequence"], 0),
        (["sequence"], 2**53 + 1),
        (["window"], 3998),
        (["window"], 4000),
        (["speed_mps"], -0.1),
        (["rsrp_dbm", "ap1"], -201),
        (["flows", 0, "demand_kbps"], -1),
        (["flows", 0, "demand_kbps"], 1.1e9),
        (["flows", 0, "goodput_kbps"], -1),
        (["flows", 0, "loss_ratio"], 1.01),
        (["flows", 0, "owd_p95_ms"], -1),
    ],
)
def test_numbers_that_no_user_measures(path: list[Any], value: float) -> None:
    assert verdict(changed(path, value)) is Rejection.OUT_OF_RANGE


def test_five_seconds_of_clock_error_are_the_limit() -> None:
    payload = encoded(sample_report())
    assert isinstance(verdict(payload, now_ns=T0_NS + 5_000_000_000), UserReport)
    assert verdict(payload, now_ns=T0_NS + 5_000_000_001) is Rejection.STALE
    assert isinstance(verdict(payload, now_ns=T0_NS - 5_000_000_000), UserReport)
    assert verdict(payload, now_ns=T0_NS - 5_000_000_001) is Rejection.FUTURE


@pytest.mark.parametrize(
    "last", [LastReport(3999, T0_NS - 1), LastReport(4000, T0_NS - 1), LastReport(3998, T0_NS)]
)
def test_an_old_sequence_or_an_old_measurement_is_a_replay(last: LastReport) -> None:
    assert verdict(encoded(sample_report()), last) is Rejection.REPLAYED


def test_the_next_report_is_no_replay() -> None:
    assert isinstance(verdict(encoded(sample_report()), LastReport(3998, T0_NS - 1)), UserReport)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["kind"], '"vehicle"'),
        (["cell_id"], '"ap9"'),
        (["rsrp_dbm"], '{"ap9": -80}'),
        (["flows", 0, "slice_id"], 2),
    ],
)
def test_what_contradicts_the_inventory_is_mismatched(path: list[Any], value: Any) -> None:
    assert verdict(changed(path, value)) is Rejection.MISMATCHED


@pytest.mark.parametrize(
    ("path", "value", "unit"),
    [
        (["flows", 0, "loss_ratio"], 5, "percent"),
        (["flows", 0, "demand_kbps"], 4e9, "bit/s"),
        (["flows", 0, "owd_p95_ms"], 12_000_000, "ns"),
        (["speed_mps"], 6400, "mm/s"),
        (["rsrp_dbm", "ap1"], -8000, "hundredths of dBm"),
        (["snr_db"], 1e4, "a plain ratio"),
    ],
)
def test_a_value_in_another_unit_is_out_of_range(path: list[Any], value: float, unit: str) -> None:
    assert verdict(changed(path, value)) is Rejection.OUT_OF_RANGE, unit


def test_a_name_with_another_unit_is_no_name() -> None:
    payload = encoded(sample_report())
    for name in (b"loss_pct", b"demand_mbps", b"speed_kmph"):
        old = {b"l": b"loss_ratio", b"d": b"demand_kbps", b"s": b"speed_mps"}[name[:1]]
        assert verdict(payload.replace(old, name)) is Rejection.MALFORMED


@given(st.binary(max_size=200))
def test_no_bytes_raise(payload: bytes) -> None:
    assert isinstance(verdict(payload), Rejection)


OWN = {"ap1", "ap2"}


def test_the_newer_evidence_names_the_serving_cell() -> None:
    report = sample_report(cell_id="ap2")
    assert serving_cell(report, ("ap1", T0_NS - 1), OWN) == "ap2"
    assert serving_cell(report, ("ap1", T0_NS + 1), OWN) == "ap1"


def test_a_user_of_a_foreign_cell_counts_only_while_it_is_attached_here() -> None:
    report = sample_report(cell_id="far")
    assert serving_cell(report, ("ap1", T0_NS - 1), OWN) == "ap1"
    assert serving_cell(report, None, OWN) is None
