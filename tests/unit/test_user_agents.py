"""What user agents report: rates from cumulative counters, time, and the message itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controller.contracts.twin_messages import FlowReport, UserReport
from tests.sample_inventory import sample_inventory, sample_scenario
from topologies.flow_counts import tcp_counts
from topologies.tcp_connections import Connection
from topologies.traffic.counters import TOTALS
from topologies.traffic.flows import flows_of
from topologies.traffic.iperf import port_of
from topologies.user_reports import (
    STAGGER_RATIO,
    FlowRates,
    Header,
    Radio,
    Totals,
    encode_report,
    flow_rates,
    flow_reports,
    flow_table,
    last_window,
    next_boundary_ns,
    stagger_ns,
)

PERIOD_NS = 500_000_000
L2_BYTES, PAYLOAD_BYTES = 1242, 1200


def flow(**changes: Any) -> dict[str, Any]:
    return {
        "service": "stream",
        "slice_id": 1,
        "ue_id": "ue1",
        "direction": "down",
        "kind": "paced",
        "l2_bytes": L2_BYTES,
        "payload_bytes": PAYLOAD_BYTES,
        **changes,
    }


def totals(**values: float) -> Totals:
    row = np.zeros(1, dtype=TOTALS)
    row["owd_p95_ms"] = np.nan
    for name, value in values.items():
        row[name] = value
    return row


def report_of(flow_: dict[str, Any], before: Totals, after: Totals) -> list[FlowReport]:
    table = flow_table([flow_])
    rates: FlowRates = flow_rates(table, before, after)
    return [FlowReport(**f) for f in flow_reports(table, rates, table.by_user["ue1"])]


START = totals(highest_seq=1000, received_packets=990, received_updated_ns=7 * PERIOD_NS)


def test_downlink_demand_is_received_plus_missing() -> None:
    after = totals(
        highest_seq=1100,
        received_packets=1070,
        received_bytes=80 * L2_BYTES,
        received_updated_ns=8 * PERIOD_NS,
        owd_p95_ms=12.3456,
    )
    (report,) = report_of(flow(), START, after)
    assert report.demand_kbps == pytest.approx(100 * L2_BYTES * 8 / 500)
    assert report.goodput_kbps == pytest.approx(80 * PAYLOAD_BYTES * 8 / 500)
    assert report.loss_ratio == pytest.approx(0.2)
    assert report.owd_p95_ms == 12.346
    assert not report.up


def test_rates_are_of_the_time_that_the_counters_cover() -> None:
    after = totals(highest_seq=1100, received_packets=1090, received_updated_ns=9 * PERIOD_NS)
    (report,) = report_of(flow(), START, after)
    assert report.demand_kbps == pytest.approx(100 * L2_BYTES * 8 / 1000)


def test_overtaken_packets_are_no_negative_loss() -> None:
    after = totals(highest_seq=1010, received_packets=1005, received_updated_ns=8 * PERIOD_NS)
    (report,) = report_of(flow(), START, after)
    assert report.loss_ratio == 0.0


def test_silence_is_no_demand_and_has_no_delay() -> None:
    after = totals(
        highest_seq=1000,
        received_packets=990,
        received_updated_ns=8 * PERIOD_NS,
        owd_p95_ms=5.0,
    )
    (report,) = report_of(flow(), START, after)
    assert (report.demand_kbps, report.loss_ratio, report.owd_p95_ms) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    "after",
    [
        totals(highest_seq=1000, received_packets=990, received_updated_ns=7 * PERIOD_NS),
        totals(highest_seq=5, received_packets=5, received_updated_ns=8 * PERIOD_NS),
        totals(),
    ],
    ids=["counters stand still", "counted anew", "reset"],
)
def test_without_a_measurement_the_flow_is_left_out(after: Totals) -> None:
    assert report_of(flow(), START, after) == []


def test_uplink_is_what_the_application_offered() -> None:
    before = totals(sent_packets=10, sent_updated_ns=PERIOD_NS)
    after = totals(sent_packets=60, host_drops=5, sent_updated_ns=2 * PERIOD_NS, owd_p95_ms=3.0)
    (report,) = report_of(flow(direction="up"), before, after)
    assert report.up
    assert report.demand_kbps == pytest.approx(50 * L2_BYTES * 8 / 500)
    assert report.goodput_kbps == pytest.approx(45 * PAYLOAD_BYTES * 8 / 500)
    assert report.loss_ratio == pytest.approx(0.1)
    assert report.owd_p95_ms is None


def test_tcp_demands_what_arrives() -> None:
    before = totals(received_updated_ns=PERIOD_NS)
    after = totals(received_packets=10, received_bytes=10 * 1514, received_updated_ns=2 * PERIOD_NS)
    (report,) = report_of(flow(kind="tcp"), before, after)
    assert report.demand_kbps == pytest.approx(10 * 1514 * 8 / 500, abs=1e-3)
    assert report.goodput_kbps == pytest.approx(10 * 1448 * 8 / 500, abs=1e-3)
    assert report.loss_ratio == 0.0


def connection(**changes: int) -> Connection:
    zero = dict.fromkeys(Connection.__dataclass_fields__, 0)
    return Connection(**{**zero, **changes})


def test_a_received_tcp_flow_is_known_by_its_own_port() -> None:
    counts = tcp_counts(
        4,
        False,
        [
            connection(local_port=20_004, bytes_received=1000, segments_in=2),
            connection(local_port=20_004, bytes_received=10, segments_in=1),
            connection(local_port=20_005, bytes_received=7, segments_in=1),
        ],
        now_ns=5,
    )
    assert counts == {
        "received_packets": 3,
        "received_bytes": 1010 + 3 * 66,
        "received_updated_ns": 5,
    }


def test_a_sent_tcp_flow_is_known_by_the_other_ends_port() -> None:
    sending = connection(remote_port=20_004, bytes_acked=1000, segments_out=2, retransmitted=1)
    assert tcp_counts(4, True, [sending], now_ns=5) == {
        "sent_packets": 2,
        "sent_bytes": 1000 + 2 * 66,
        "host_drops": 1,
        "sent_updated_ns": 5,
    }


def test_a_tcp_flow_without_a_connection_carries_nothing() -> None:
    assert set(tcp_counts(4, False, [], now_ns=5).values()) == {0, 5}


def test_the_port_is_the_one_that_iperf_listens_at() -> None:
    tcp = {
        "name": "files",
        "kind": "tcp",
        "service": "files",
        "users": ["ue1"],
        "demand": {"shape": "constant", "mbps": 5},
    }
    (made,) = (
        f for f in flows_of(sample_scenario(traffic=[tcp]), sample_inventory()) if f.kind == "tcp"
    )
    listening = connection(local_port=port_of(made), segments_in=1)
    assert tcp_counts(made.flow_id, False, [listening], 1)["received_packets"] == 1


def test_flows_of_nobody_are_in_nobodys_report() -> None:
    table = flow_table([flow(ue_id=""), flow(ue_id="ue2"), flow(), flow()])
    assert table.by_user == {"ue2": [1], "ue1": [2, 3]}


def test_the_message_is_a_user_report_of_the_last_whole_window() -> None:
    measured_at_ns = 41 * PERIOD_NS + 300_000
    header = Header("ue1", "phone", 7, measured_at_ns, 500)
    radio = Radio("ap1", {"ap1": -80.123456, "ap2": -90.0}, (1.23456, 2.0), 3.0)
    flows = [f.model_dump() for f in report_of(flow(), START, _one_packet_later())]
    payload = encode_report(header, radio, flows)
    report = UserReport.model_validate_json(payload, strict=True)
    assert (report.sequence, report.window, report.period_ms) == (7, 40, 500)
    assert report.measured_at_ns == measured_at_ns
    assert report.rsrp_dbm == {"ap1": -80.12, "ap2": -90.0}
    assert report.position_m == (1.235, 2.0)
    assert len(report.flows) == 1


def _one_packet_later() -> Totals:
    return totals(highest_seq=1001, received_packets=991, received_updated_ns=8 * PERIOD_NS)


def test_windows_end_at_whole_periods_of_the_clock() -> None:
    assert next_boundary_ns(10 * PERIOD_NS, 500) == 11 * PERIOD_NS
    assert next_boundary_ns(10 * PERIOD_NS - 1, 500) == 10 * PERIOD_NS
    assert last_window(10 * PERIOD_NS, 500) == 9
    assert last_window(10 * PERIOD_NS - 1, 500) == 8


@pytest.mark.parametrize("period_ms", [20, 500, 60_000])
def test_staggers_spread_users_over_the_windows_first_part(period_ms: int) -> None:
    waits_ns = sorted(stagger_ns(index, period_ms) for index in range(1000))
    limit_ns = min(STAGGER_RATIO * period_ms * 1e6, 500_000_000)
    assert 0 <= waits_ns[0] <= waits_ns[-1] < limit_ns
    gaps_ns = np.diff(waits_ns)
    assert gaps_ns.max() < 4 * limit_ns / 1000
