"""Differential test: admission against the rules of a report written out in plain Python.

Whatever is changed in a good report, admission (a compiled schema and what follows it)
gives the verdict that these rules give, in their order, and the report if they find none.
"""

from __future__ import annotations

import copy
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.contracts.twin_messages import UserReport
from controller.local.admission import KnownUser, LastReport, Rejection, Roster, admit
from tests.sample_reports import T0_NS, encoded, sample_flow, sample_report

IP, NOW_NS = "10.0.1.1", T0_NS + 3_000_000
ROSTER = Roster(
    {
        "ue1": KnownUser(IP, "phone", frozenset({1, 2})),
        "ue2": KnownUser("10.0.1.2", "phone", frozenset({1})),
    },
    frozenset({"ap1", "ap2"}),
)
LAST = {"ue1": LastReport(3990, T0_NS - 400_000_000)}

REQUIRED = {
    "ue_id", "kind", "sequence", "window", "measured_at_ns", "period_ms", "cell_id", "rsrp_dbm",
    "flows",
}  # fmt: skip
INTEGERS = {
    "sequence": (1, 2**53), "window": (-1, 2**63 - 1), "measured_at_ns": (0, 2**63 - 1),
    "period_ms": (20, 60_000), "settings_version": (0, 2**32 - 1), "batch_reports": (1, 32),
}  # fmt: skip
OPTIONAL = {
    "speed_mps": (0, 1000), "rsrq_db": (-200, 200), "snr_db": (-200, 200),
    "down_kbps": (0, 1e9), "up_kbps": (0, 1e9), "heading_deg": (0, 360), "odometer_m": (0, 1e12),
}  # fmt: skip
FLOW = {"demand_kbps": (0, 1e9), "goodput_kbps": (0, 1e9), "loss_ratio": (0, 1)}
FLOW_REQUIRED = {"service", "slice_id", "up", *FLOW}


class Broken(Exception):
    """Carries the first rule that a document breaks."""


class Numbers:
    """Notes what is wrong with numbers; judged after all types and the sender."""

    def __init__(self) -> None:
        self.not_finite = self.out_of_range = False

    def check(self, value: Any, bounds: tuple[float, float], whole: bool = False) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise Broken(Rejection.MALFORMED)
        if isinstance(value, float) and not math.isfinite(value):
            self.not_finite = True
        elif not bounds[0] <= value <= bounds[1]:
            self.out_of_range = True


def verdict_by_rules(document: Any, source_ip: str) -> Rejection | None:
    try:
        _judge(document, source_ip)
    except Broken as broken:
        reason = broken.args[0]
        assert isinstance(reason, Rejection)
        return reason
    return None


def _judge(document: Any, source_ip: str) -> None:
    numbers = Numbers()
    _types(document, numbers)
    known = ROSTER.users.get(document["ue_id"])
    if known is None:
        raise Broken(Rejection.UNKNOWN_USER)
    if known.ip != source_ip:
        raise Broken(Rejection.SPOOFED)
    if numbers.not_finite:
        raise Broken(Rejection.NOT_FINITE)
    at_ns = document["measured_at_ns"]
    if numbers.out_of_range or document["window"] != at_ns // (document["period_ms"] * 10**6) - 1:
        raise Broken(Rejection.OUT_OF_RANGE)
    if at_ns < NOW_NS - 5 * 10**9:
        raise Broken(Rejection.STALE)
    if at_ns > NOW_NS + 5 * 10**9:
        raise Broken(Rejection.FUTURE)
    last = LAST.get(document["ue_id"])
    if last and (document["sequence"] <= last.sequence or at_ns <= last.measured_at_ns):
        raise Broken(Rejection.REPLAYED)
    cells = {document["cell_id"], *document["rsrp_dbm"]}
    slices = {flow["slice_id"] for flow in document["flows"]}
    if document["kind"] != known.kind or cells - ROSTER.cell_ids or slices - known.slice_ids:
        raise Broken(Rejection.MISMATCHED)


def _types(document: Any, numbers: Numbers) -> None:
    known = {*REQUIRED, *INTEGERS, *OPTIONAL, "position_m", "cqi", "operations"}
    _keys(document, REQUIRED, known)
    for name in ("ue_id", "kind", "cell_id"):
        _text(document[name])
    for name, bounds in INTEGERS.items():
        if name in document:
            numbers.check(document[name], bounds, whole=True)
    for name, bounds in OPTIONAL.items():
        if document.get(name) is not None:
            numbers.check(document[name], bounds)
    if document.get("cqi") is not None:
        numbers.check(document["cqi"], (0, 15), whole=True)
    if document.get("operations") is not None:
        numbers.check(document["operations"], (0, 2**53), whole=True)
    _place(document.get("position_m"), numbers)
    if not isinstance(document["rsrp_dbm"], dict) or not isinstance(document["flows"], list):
        raise Broken(Rejection.MALFORMED)
    for dbm in document["rsrp_dbm"].values():
        numbers.check(dbm, (-200, 50))
    for flow in document["flows"]:
        _keys(flow, FLOW_REQUIRED, {*FLOW_REQUIRED, "owd_p95_ms"})
        _text(flow["service"])
        numbers.check(flow["slice_id"], (-math.inf, math.inf), whole=True)
        if not isinstance(flow["up"], bool):
            raise Broken(Rejection.MALFORMED)
        for name, bounds in FLOW.items():
            numbers.check(flow[name], bounds)
        if flow.get("owd_p95_ms") is not None:
            numbers.check(flow["owd_p95_ms"], (0, 60_000))


def _place(place: Any, numbers: Numbers) -> None:
    if place is None:
        return
    if not isinstance(place, list) or len(place) != 2:
        raise Broken(Rejection.MALFORMED)
    for metres in place:
        numbers.check(metres, (-1e8, 1e8))


def _keys(document: Any, required: set[str], known: set[str]) -> None:
    if not isinstance(document, dict) or required - document.keys() or document.keys() - known:
        raise Broken(Rejection.MALFORMED)


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise Broken(Rejection.MALFORMED)


# -- reports with something changed ---------------------------------------------------------

GOOD: dict[str, Any] = json.loads(
    encoded(
        sample_report(
            flows=(sample_flow(), sample_flow(service="up", up=True, slice_id=2)),
            rsrq_db=-9.0, snr_db=12.5, cqi=11, down_kbps=9000.0, up_kbps=100.0,
            heading_deg=10.0, odometer_m=5.0, operations=3,
        )
    )
)  # fmt: skip
PLACES: list[list[str | int]] = [
    *([name] for name in [*GOOD, "surprise"]),
    *(["flows", 0, name] for name in [*GOOD["flows"][0], "surprise"]),
    ["position_m", 0], ["rsrp_dbm", "ap1"], ["rsrp_dbm", "ap9"], ["flows", 1],
]  # fmt: skip
REMOVE = object()
VALUES = st.one_of(
    st.just(REMOVE),
    st.sampled_from(
        [None, True, 0, -0.0, -1, 1.5, 15, 16, 20, 19, 50.1, -200.5, 1000, 1000.5, 60_000.0, 61_000,
         2**31, 2**53, 2**53 + 1, 2**63, 2**70, 1e9, 1.1e9, math.nan, math.inf, -math.inf, 1e8, "7",
         "ue2", "ue9", "ap2", "ap9", "", [], {}, [1], [1, 2], [1, "2"], {"ap2": -70}, {"ap9": -70}]
    ),
    st.integers(), st.floats(), st.text(max_size=3),
    st.integers(-6, 6).map(lambda s: T0_NS + s * 10**9),
    st.integers(3980, 4010),
)  # fmt: skip


def changed(changes: list[tuple[list[str | int], Any]]) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    for path, value in changes:
        place: Any = document
        for step in path[:-1]:
            place = place[step] if _leads(place, step) else None
        if value is REMOVE and _leads(place, path[-1]):
            del place[path[-1]]
        elif value is not REMOVE and (isinstance(place, dict) or _leads(place, path[-1])):
            place[path[-1]] = copy.deepcopy(value)
    return document


def _leads(place: Any, step: str | int) -> bool:
    if isinstance(place, dict):
        return step in place
    return isinstance(place, list) and isinstance(step, int) and step < len(place)


@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), max_size=3), st.booleans())
@settings(max_examples=400, deadline=None)
def test_admission_is_these_rules(
    changes: list[tuple[list[str | int], Any]], is_own_address: bool
) -> None:
    document, source = changed(changes), IP if is_own_address else "10.0.1.2"
    got = admit(json.dumps(document).encode(), source, ROSTER, LAST, NOW_NS)
    wanted = verdict_by_rules(document, source)
    if wanted is None:
        assert isinstance(got, UserReport), got
        assert got == UserReport.model_validate(document)
    else:
        assert got is wanted


def test_the_unchanged_report_is_good() -> None:
    assert verdict_by_rules(GOOD, IP) is None
