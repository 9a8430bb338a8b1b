"""Who is represented by whom, and what a represented user's share of an aggregate is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from controller.contracts.twin_budget import Represented
from controller.local.aggregation import SliceSample, UserSample
from controller.local.clustering import chosen
from controller.local.demand_tracks import DemandTracks
from controller.local.representation import Representation
from controller.twins.representatives import (
    STRANGERS,
    assigned,
    choose,
    distances,
    weights_kbps,
)

PERIOD_NS = 500_000_000
T0_NS = 1_700_000_000_000_000_000


def shapes(seed: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    """Three kinds of four users each, alike but for size and noise."""
    random = np.random.default_rng(seed)
    kinds = [np.tile([1.0, 1.0, 9.0], 5), np.tile([9.0, 1.0, 1.0], 5), np.full(15, 4.0)]
    rows = [
        k * random.uniform(50, 200) * random.uniform(0.98, 1.02, 15) for k in kinds for _ in "1234"
    ]
    return np.array(rows)


def test_each_kind_gets_one_representative() -> None:
    demand = {1: shapes()}
    choice = choose(distances(demand), weights_kbps(demand), 3, seed=7)
    for kind in range(3):
        assert set(choice.representative[4 * kind : 4 * kind + 4] // 4) == {kind}
    assert set(choice.representative) == set(choice.medoids)
    again = choose(distances(demand), weights_kbps(demand), 3, seed=7)
    assert np.array_equal(choice.representative, again.representative)


def test_more_representatives_cost_no_more_and_all_cost_nothing() -> None:
    demand = {1: shapes()}
    apart, weight = distances(demand), weights_kbps(demand)
    costs = [choose(apart, weight, k).cost for k in range(1, 13)]
    assert all(later <= before + 1e-9 for before, later in itertools.pairwise(costs))
    assert costs[-1] == pytest.approx(0.0)


def test_the_choice_is_as_good_as_the_best_of_all() -> None:
    demand = {1: shapes(3)[[0, 1, 4, 5, 8, 9]]}
    apart, weight = distances(demand), weights_kbps(demand)
    best = min(
        assigned(apart, weight, np.array(m)).cost for m in itertools.combinations(range(6), 2)
    )
    assert choose(apart, weight, 2).cost == pytest.approx(best)


def test_users_of_other_slices_are_strangers_and_none_is_refused() -> None:
    rows = shapes()[:2]
    nowhere = np.full((1, 15), np.nan)
    apart = distances(
        {1: np.concatenate([rows, nowhere]), 2: np.concatenate([nowhere, nowhere, rows[:1]])}
    )
    assert apart[0, 2] == apart[2, 0] == STRANGERS
    assert apart[0, 1] < 0.5
    with pytest.raises(ValueError, match="at least 1"):
        choose(apart, np.ones(3), 0)


def test_every_kin_has_one_of_its_own_before_any_has_a_second() -> None:
    """Else those whom nobody can stand for report for themselves: more than were asked for."""
    many, few = shapes()[:8], 0.001 * shapes()[8:]
    first = np.concatenate([many, np.full((4, 15), np.nan)])
    other = np.concatenate([np.full((8, 15), np.nan), few])
    demand = {1: first, 2: other}
    apart, weight = distances(demand), weights_kbps(demand)
    for count in (1, 2, 3):
        choice = choose(apart, weight, count)
        assert len(choice.medoids) == max(2, count)
        assert [int(r) >= 8 for r in choice.representative] == [False] * 8 + [True] * 4
    silent = choose(apart, np.zeros(12), 2)
    assert len({int(r) >= 8 for r in silent.medoids}) == 2


# -- tracks -----------------------------------------------------------------------------


def sample(step: int, kbps: float, period_ns: int = PERIOD_NS) -> UserSample:
    return UserSample(T0_NS + step * PERIOD_NS, period_ns, {1: SliceSample(kbps, 0.0, kbps)})


def tracks_of(**series: list[float]) -> DemandTracks:
    tracks = DemandTracks()
    for ue_id, values in series.items():
        for step, kbps in enumerate(values, 1):
            tracks.observe(ue_id, sample(step, kbps), PERIOD_NS)
    return tracks


def test_growth_is_change_over_distance() -> None:
    rising = tracks_of(ue1=[100.0 * step for step in range(40)])
    assert rising.growth_kbps_per_s("ue1")[1] == pytest.approx(200.0)
    assert tracks_of(ue1=[50.0] * 40).growth_kbps_per_s("ue1")[1] == 0.0
    assert tracks_of(ue1=[50.0] * 15).growth_kbps_per_s("ue1") == {}  # none 8 s apart
    assert DemandTracks().growth_kbps_per_s("ue1") == {}
    assert rising.observed_s("ue1") == pytest.approx(19.5)
    assert DemandTracks().observed_s("ue1") == 0.0


def test_a_past_from_elsewhere_goes_before_what_came_here() -> None:
    tracks = tracks_of(ue1=[0.0] * 3)
    tracks.forget("ue1")
    tracks.observe("ue1", sample(5, 500.0), PERIOD_NS)
    tracks.adopt("ue1", [(sample(step, 100.0), PERIOD_NS) for step in (3, 4, 5, 6)])
    latest = tracks.latest("ue1")
    assert latest is not None and latest.demand_kbps == {1: 500.0}
    assert tracks.mean_kbps("ue1")[1] == pytest.approx((100 + 100 + 500) / 3)


def test_clusters_are_of_those_who_are_here_by_shape() -> None:
    swing = [100.0] * 16 + [900.0] * 8 + [100.0] * 16 + [900.0] * 8
    against = swing[::-1][8:] + swing[:8]
    tracks = tracks_of(a=swing, b=[2 * v for v in swing], c=against, d=[3 * v for v in against])
    wanted = Represented(users=2, period_ms=1000)
    now_ns = T0_NS + 48 * PERIOD_NS
    same = dict.fromkeys("abcd", frozenset({1}))
    found = chosen(tracks, same, wanted, now_ns)
    assert found["a"] == found["b"] != found["c"] == found["d"]
    apart = {**same, "a": frozenset({1, 2})}
    assert chosen(tracks, apart, wanted, now_ns)["a"] == "a"
    assert chosen(tracks, {}, wanted, now_ns) == {}


# -- estimates --------------------------------------------------------------------------


def represented(tracks: DemandTracks, here: set[str]) -> Representation:
    made = Representation({"b": "a"}.get, here.__contains__, tracks)
    made.change(["a", "b"])
    return made


def test_a_representatives_report_speaks_for_both_in_proportion() -> None:
    made = represented(tracks_of(a=[100.0] * 8, b=[300.0] * 8), {"a", "b"})
    spoken = dict(made.samples("a", sample(9, 200.0), PERIOD_NS))
    # b asked for 300 on average, a for (8 x 100 + 200) / 9.
    assert {u: s.slices[1].demand_kbps for u, s in spoken.items()} == {
        "a": 200.0,
        "b": pytest.approx(540.0),
    }
    # Its own report only corrects: it asked for half of what was estimated.
    assert made.samples("b", sample(10, 270.0, 8 * PERIOD_NS), 8 * PERIOD_NS) == []
    spoken = dict(made.samples("a", sample(11, 200.0), PERIOD_NS))
    assert spoken["b"].slices[1].demand_kbps == pytest.approx(405.0)


def test_who_is_not_here_or_not_known_speaks_for_itself() -> None:
    gone = represented(tracks_of(a=[100.0] * 8, b=[300.0] * 8), {"b"})
    assert [u for u, _ in gone.samples("b", sample(9, 300.0), PERIOD_NS)] == ["b"]
    strangers = represented(DemandTracks(), {"a", "b"})
    assert [u for u, _ in strangers.samples("a", sample(1, 1.0), PERIOD_NS)] == ["a"]
    away = represented(tracks_of(a=[100.0] * 8, b=[300.0] * 8), {"a"})
    assert [u for u, _ in away.samples("a", sample(9, 200.0), PERIOD_NS)] == ["a"]
    away.change([])
    assert away.document() == {}
