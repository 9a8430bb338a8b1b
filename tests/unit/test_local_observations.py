"""What a local controller says of itself: rates, inter-arrival times, reaction."""

from __future__ import annotations

from controller.local.reaction import Observations, percentile

S = 1_000_000_000


def test_inter_arrival_times_are_between_one_users_reports() -> None:
    seen = Observations()
    for at_ns, ue_id in ((0, "ue1"), (S // 10, "ue2"), (S // 2, "ue1"), (S, "ue1")):
        seen.accept(ue_id, at_ns)
    assert seen.inter_arrivals_ms() == {"ue1": [500.0, 500.0]}


def test_an_absence_is_no_inter_arrival_time() -> None:
    seen = Observations()
    seen.accept("ue1", 0)
    seen.leave("ue1")
    seen.accept("ue1", 30 * S)
    assert seen.inter_arrivals_ms() == {}


def test_updates_per_second_are_of_the_last_whole_seconds() -> None:
    seen = Observations()
    for tenth in range(200):
        seen.accept("ue1", tenth * S // 10)
    assert seen.updates_per_s(20 * S + 1) == 10.0
    assert seen.updates_per_s(40 * S) == 0.0


def test_percentiles_are_the_nearest_rank() -> None:
    assert percentile([], 99) is None
    assert [percentile(range(1, 101), p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
