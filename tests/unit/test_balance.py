"""The packet balance and the verdict that follows from it."""

from __future__ import annotations

import os
import time

import pytest

from topologies.results.balance import Balance, ElsewhereDrops, HostCounts, balances
from topologies.results.evidence import LoadSample, SharedQueueDrops, SwitchCounts, SwitchTotals
from topologies.results.load import LoadMeter, machine_ticks
from topologies.results.validity import validity

PUNCTUAL = {"samples": 100, "p50_ms": 0.1, "p99_ms": 0.5, "max_ms": 1.0}


def host(sent: int, received: int) -> HostCounts:
    return HostCounts(sent, received, 0, 0)


def switch(meter: int = 0, queue: int = 0) -> SwitchTotals:
    return SwitchTotals(meter, queue)


def test_drops_of_meters_and_queues_explain_what_is_missing() -> None:
    (one,) = balances({1: host(100, 70)}, SwitchCounts({1: switch(meter=20, queue=10)}))
    assert (one.slice_ids, one.missing) == ((1,), 0)


def test_miss_rules_explain_no_more_than_is_missing() -> None:
    """A queue's tail after a handover; pings to nowhere are misses too and explain nothing."""
    totals = SwitchTotals(20, 5, misses=9)
    (one,) = balances({1: host(100, 70)}, SwitchCounts({1: totals}))
    assert (one.rule_drops, one.missing) == (5, 0)
    (two,) = balances({1: host(100, 60)}, SwitchCounts({1: totals}))
    assert (two.rule_drops, two.missing) == (9, 6)


def test_what_a_network_function_dropped_is_accounted_for() -> None:
    """Another slice's drops explain nothing."""
    elsewhere = ElsewhereDrops(functions={1: 30, 2: 5})
    (hosts,) = balances({1: host(100, 70)}, SwitchCounts({1: switch()}), elsewhere)
    assert (hosts.function_drops, hosts.missing) == (30, 0)
    (double,) = balances({1: host(100, 80)}, SwitchCounts({1: switch()}), elsewhere)
    assert double.missing == -10


def test_a_lost_packet_nobody_dropped_is_missing() -> None:
    (one,) = balances({1: host(100, 99)}, SwitchCounts({1: switch()}))
    assert one.missing == 1


def test_slices_of_a_shared_queue_that_dropped_are_one_group() -> None:
    shared = [SharedQueueDrops(frozenset({1, 15}), 12), SharedQueueDrops(frozenset({2, 3}), 0)]
    hosts = {1: host(100, 95), 2: host(10, 10), 3: host(10, 10), 15: host(50, 43)}
    found = balances(hosts, SwitchCounts({s: switch() for s in hosts}, shared))
    assert [(b.slice_ids, b.missing) for b in found] == [((1, 15), 0), ((2,), 0), ((3,), 0)]


def test_groups_join_through_a_common_slice() -> None:
    shared = [SharedQueueDrops(frozenset({1, 2}), 1), SharedQueueDrops(frozenset({2, 3}), 1)]
    hosts = {s: host(10, 10) for s in (1, 2, 3)}
    (one,) = balances(hosts, SwitchCounts({s: switch() for s in hosts}, shared))
    assert one.slice_ids == (1, 2, 3)
    assert one.queue_drops == 2


def test_slice_that_no_switch_counted_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"lack slices \[2\]"):
        balances({1: host(1, 1), 2: host(1, 1)}, SwitchCounts({1: switch()}))


def load(machine: float = 0.3, vswitchd: float = 0.3, busy_s: float = 0.0) -> list[LoadSample]:
    """Ten seconds; the given ratios for `busy_s`, then an idle machine."""
    return [
        LoadSample(i, 0.25, *((machine, vswitchd) if i * 0.25 < busy_s else (0.1, 0.1)))
        for i in range(40)
    ]


def test_calm_balanced_run_is_valid() -> None:
    block = validity(load(), PUNCTUAL, [])
    assert (block["verdict"], block["reasons"]) == ("valid", [])
    assert block["cpu_busy_ratio"] == pytest.approx(0.1)


def test_a_second_of_overload_is_allowed_and_more_is_not() -> None:
    assert validity(load(0.95, 0.2, 1.0), PUNCTUAL, [])["verdict"] == "valid"
    block = validity(load(0.95, 0.2, 1.25), PUNCTUAL, [])
    assert block["verdict"] == "invalid"
    assert block["reasons"][0].startswith("the machine was over 0.85 busy for 1.2 s")


def test_busy_switch_thread_is_named() -> None:
    (reason,) = validity(load(0.5, 0.97, 3.0), PUNCTUAL, [])["reasons"]
    assert "ovs-vswitchd's busiest thread" in reason and "0.97" in reason


def test_late_probes_invalidate() -> None:
    (reason,) = validity(load(), {**PUNCTUAL, "p99_ms": 2.31, "max_ms": 9}, [])["reasons"]
    assert "p99 2.31 ms of 100 probes" in reason


def test_unbalanced_slices_invalidate_with_numbers() -> None:
    balance = Balance((1, 15), 100, 90, 3, 4, 2, 0)
    (reason,) = validity(load(), PUNCTUAL, [balance])["reasons"]
    assert reason.startswith("3 packets of slice 1 and 15 are unaccounted for: 100 sent")
    assert "2 refused by sending hosts" in reason


def test_missing_measurements_invalidate() -> None:
    reasons = validity([], PUNCTUAL, None)["reasons"]
    assert len(reasons) == 3
    assert any("no packet balance" in reason for reason in reasons)


def test_busy_thread_is_measured() -> None:
    meter = LoadMeter(os.getpid())
    end_s = time.process_time() + 0.2
    while time.process_time() < end_s:
        pass
    busy = meter.sample()
    assert 0.1 < busy.vswitchd_ratio <= 1.05
    assert 0 < busy.machine_ratio <= 1


def test_stolen_time_is_not_idle() -> None:
    assert machine_ticks("cpu  10 1 20 300 40 0 5 24 0 0\ncpu0 1 1 1 1\n") == (400, 340)
