"""The table of rules per switch: it grows by the same number with every user, meters do not."""

from __future__ import annotations

from benchmarks.rules import USERS, growth, planned_counts, scenario_with


def test_rules_grow_linearly_on_every_switch() -> None:
    counts = planned_counts([scenario_with(users) for users in USERS])
    assert set(counts[0]) == {"core", "air", "mbs", "sbs1", "sbs2"}
    for switch in counts[0]:
        first, second = growth(counts, switch)
        assert 0 < first == second, switch
        assert len({c[switch]["meters"] for c in counts}) == 1
