"""Rates, loss and delay per window; reservations over time; cells; handovers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sample_evidence import T0_NS, decision, handover, sample_measurements, two_cells
from topologies.results.cells import cell_slices
from topologies.results.evidence import (
    Attachment,
    ReservationChange,
    attachments,
    reservation_changes,
)
from topologies.results.handovers import handover_costs
from topologies.results.reserved import mean_reserved_kbps
from topologies.results.windows import round_trips_ms, slice_windows
from topologies.traffic.samples import Samples

MEASURED = sample_measurements(windows=20, first_window=5)
ALWAYS = (0, 2**62)


def test_rates_are_payload_of_paced_flows_only() -> None:
    video = slice_windows(MEASURED, 1)
    # 400 packets of 1200 B offered in a quiet second; 800 with 20 lost in a busy one.
    assert video.offered_mbps[0] == pytest.approx(400 * 1200 * 8 / 1e6)
    assert video.offered_mbps[15] == pytest.approx(800 * 1200 * 8 / 1e6)
    assert video.goodput_mbps[15] == pytest.approx(780 * 1200 * 8 / 1e6)
    assert video.l2_rate_mbps[15] == pytest.approx(780 * 1242 * 8 / 1e6)


def test_loss_counts_paced_packets_and_probes() -> None:
    video = slice_windows(MEASURED, 1)
    assert video.sent_packets[15] == 800 + 2 * 50
    assert video.lost_packets[15] == 20


def test_delay_percentile_is_of_the_windows_own_packets() -> None:
    video = slice_windows(MEASURED, 1)
    assert video.delay_ms.shape == video.delay_window.shape
    own = video.delay_ms[video.delay_window == 15]
    assert len(own) == 780 + 100
    assert video.delay_percentile_ms(95)[15] == pytest.approx(
        np.percentile(own, 95, method="inverted_cdf")
    )


def test_window_without_arrivals_has_no_percentile() -> None:
    video = slice_windows(MEASURED, 1)
    silent = np.isin(video.delay_window, [3], invert=True)
    cut = type(video)(
        **{
            **vars(video),
            "delay_ms": video.delay_ms[silent],
            "delay_window": video.delay_window[silent],
        }
    )
    assert np.isnan(cut.delay_percentile_ms(95)[3])


def test_round_trip_is_up_plus_the_next_down() -> None:
    flows = MEASURED.flows
    down, up = (f.flow_id for f in flows if f.kind == "probe" and f.ue_id == "ue2")
    samples = Samples(
        np.array([up, down, down], dtype=np.uint16),
        np.array([1, 1, 2], dtype=np.uint32),
        np.array([0, 2_000_000, 9_000_000], dtype=np.int64),
        np.array([5_000_000, 7_000_000, 3_000_000], dtype=np.int64),
    )
    # Arrives at 5 ms, so the downlink probe of 9 ms answers: 5 + 3.
    assert round_trips_ms(flows, samples, 2).tolist() == [8.0]


def test_reserved_is_a_time_average_over_cells_and_classes() -> None:
    changes = [
        ReservationChange(0, "ap1", 1, "elastic", 4000),
        ReservationChange(250, "ap1", 1, "elastic", 8000),
        ReservationChange(0, "ap1", 1, "real_time", 1000),
        ReservationChange(0, "ap2", 1, "elastic", 500),
        ReservationChange(0, "ap1", 2, "elastic", 9999),
        ReservationChange(0, "elsewhere", 1, "elastic", 9999),
    ]
    # Elastic on ap1: 4000 for half of [200, 300), 8000 for the other half.
    assert mean_reserved_kbps(changes, ["ap1", "ap2"], 1, 200, 300) == 6000 + 1000 + 500


def test_reserved_before_the_first_change_is_nothing() -> None:
    changes = [ReservationChange(150, "ap1", 1, "elastic", 1000)]
    assert mean_reserved_kbps(changes, ["ap1"], 1, 100, 200) == 500


def test_reserved_of_no_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="no time between"):
        mean_reserved_kbps([], ["ap1"], 1, 5, 5)


def test_changes_come_from_the_start_and_applied_decisions_only() -> None:
    one_slice = decision(
        16.0,
        target={"cell_id": "ap1", "s_nssai": {"sst": 2, "sd": "000002"}},
        parameters={"min_kbps": 3000, "max_kbps": 4000},
    )
    records = [decision(14.5), decision(15.0, verdict="rejected"), one_slice]
    changes = reservation_changes(two_cells(), records)
    assert [(c.at_ns, c.slice_id, c.traffic_class, c.min_kbps) for c in changes] == [
        (0, 1, "elastic", 6000),
        (0, 2, "real_time", 2000),
        (T0_NS + 14_500_000_000, 1, "elastic", 8000),
        (T0_NS + 16_000_000_000, 2, "real_time", 3000),
    ]


def test_traffic_follows_its_user_to_the_new_cell() -> None:
    inventory = two_cells()
    moves = attachments(inventory, [handover(12.0)])
    assert moves[-1] == Attachment(T0_NS + 12_000_000_000, "ue2", "ap2")
    figures = cell_slices(MEASURED, moves, [], ["ap1", "ap2"], [2])
    before, after = figures
    # The window's middle decides: windows 5..11 in ap1, 12.. in ap2.
    assert (before.offered_mbps[:7] > 0).all() and not before.offered_mbps[7:].any()
    assert not after.offered_mbps[:7].any() and (after.offered_mbps[7:] > 0).all()


def test_handover_costs_the_gap_in_its_users_probes() -> None:
    (cost,) = handover_costs([handover(12.0)], MEASURED.flows, MEASURED.samples, *ALWAYS)
    assert cost.lost_packets == 3
    # Three probes of 10 ms lost: arrivals 40 ms apart, give or take the delays' difference.
    assert cost.interruption_ms == pytest.approx(30, abs=4)


def test_handover_without_loss_costs_nothing() -> None:
    (cost,) = handover_costs([handover(16.0)], MEASURED.flows, MEASURED.samples, *ALWAYS)
    assert cost.lost_packets == 0


def test_gap_that_outlasts_the_window_is_seen_whole() -> None:
    keep = (MEASURED.samples.sent_ns < T0_NS + 12_000_000_000) | (
        MEASURED.samples.sent_ns >= T0_NS + 16_000_000_000
    )
    (cost,) = handover_costs(
        [handover(12.0)], MEASURED.flows, MEASURED.samples.where(keep), *ALWAYS
    )
    assert cost.lost_packets == 2 * 400
    assert cost.interruption_ms == pytest.approx(4000, abs=20)


def test_user_without_real_time_probes_has_no_cost() -> None:
    record = handover(12.0).model_copy(update={"target": {"ue_id": "ue1"}})
    (cost,) = handover_costs([record], MEASURED.flows, MEASURED.samples, *ALWAYS)
    assert (cost.lost_packets, cost.interruption_ms) == (None, None)


def test_rejected_handover_is_none() -> None:
    record = handover(12.0).model_copy(update={"verdict": "rejected"})
    assert handover_costs([record], MEASURED.flows, MEASURED.samples, *ALWAYS) == []
