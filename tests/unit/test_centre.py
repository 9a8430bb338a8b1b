"""The centre: which aggregates count, what the stream says, and the placebo's shuffling."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from controller.contracts.addressing import COLLECTOR_IP, edge_ip
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slice_twins import SliceTwinSettings, resolve_slice
from controller.contracts.slices import TrafficClass
from controller.contracts.twin_models import Override, load_models
from controller.ric.cell_events import cell_event
from controller.ric.measurement import ClassCount, CounterSample
from controller.ric.observation import Centre
from controller.ric.placebo import POOL_SAMPLES, Placebo
from controller.ric.stream import QUEUE_EVENTS, Filter, StreamHub, Subscription
from tests.ric_inventory import ric_inventory
from tests.sample_aggregates import (
    NOW_NS,
    PERIOD_NS,
    WINDOW,
    datagram_of,
    sample_aggregate,
    slice_demand,
)

TRACE_ID = sample_aggregate().trace_id
RESERVED = [
    Reservation(slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=8000, max_kbps=20_000),
    Reservation(slice_id=2, traffic_class=TrafficClass.REAL_TIME, min_kbps=2000, max_kbps=2000),
]


def centre(inventory: Inventory | None = None, overrides: Sequence[Override] = ()) -> Centre:
    used = inventory or ric_inventory()
    model = load_models()["slice"]

    def settings_of(s_nssai: str) -> SliceTwinSettings:
        return resolve_slice(model, s_nssai, overrides, 500, used.twins.history_length)

    return Centre(used, lambda _: RESERVED, settings_of)


def datagram(**changes: Any) -> bytes:
    return datagram_of(sample_aggregate(**changes))


@pytest.mark.parametrize("source", [edge_ip(0), COLLECTOR_IP])
def test_an_aggregate_of_the_cells_edge_is_accepted(source: str) -> None:
    known = centre()
    known.receive(datagram(), source, NOW_NS + 2)
    assert (known.accepted, dict(known.refused)) == (1, {})
    assert known.traces.hops_of(TRACE_ID, {}, NOW_NS + 3) == {
        "twin_completed": NOW_NS,
        "aggregate_sent": NOW_NS + 1000,
        "aggregate_received": NOW_NS + 2,
    }
    history = known.history.last("cell", "ap1", "demand_kbps.1-000001", 5)
    assert [(p.window, p.value) for p in history] == [(WINDOW, 4000.0)]
    assert len(known.table) == 2


@pytest.mark.parametrize(
    ("payload", "source", "reason"),
    [
        (b"", edge_ip(0), "malformed"),
        (b"{}", edge_ip(0), "malformed"),
        (datagram()[:-1], edge_ip(0), "malformed"),
        (datagram() + b"\x00", edge_ip(0), "malformed"),
        (b"\x01" + b"\xff" * 11, edge_ip(0), "malformed"),
        (b"\x01\x09\x01\x01", edge_ip(0), "foreign_cell"),
        (datagram(cell_id="ap2", edge="edge2"), edge_ip(0), "spoofed"),
        (datagram(), edge_ip(1), "spoofed"),
        (datagram(), "10.0.1.1", "spoofed"),
        (datagram(slices=[slice_demand(1, 1e13)]), edge_ip(0), "out_of_range"),
        (datagram(slices=[slice_demand(1, 1.0, loss_ratio=1.5)]), edge_ip(0), "out_of_range"),
        (datagram(completed_at_ns=NOW_NS - 6 * 10**9), edge_ip(0), "untimely"),
        (datagram(window=WINDOW + 1000), edge_ip(0), "untimely"),
        (datagram(period_ms=0), edge_ip(0), "untimely"),
    ],
)
def test_other_datagrams_change_nothing_and_are_counted(
    payload: bytes, source: str, reason: str
) -> None:
    known = centre()
    known.receive(payload, source, NOW_NS)
    assert dict(known.refused) == {reason: 1}
    assert known.accepted == 0
    assert known.level_two.cells["ap1"].version == 0


def test_one_datagram_brings_several_cells() -> None:
    known = centre()
    far = sample_aggregate(cell_id="ap2", edge="edge2")
    known.receive(datagram_of(sample_aggregate(), far), COLLECTOR_IP, NOW_NS)
    assert (known.accepted, dict(known.refused)) == (2, {})
    known = centre()
    known.receive(datagram_of(sample_aggregate(), far), edge_ip(0), NOW_NS)
    assert (known.accepted, dict(known.refused)) == (1, {"spoofed": 1})


def test_a_repeated_window_is_late() -> None:
    known = centre()
    for _ in range(2):
        known.receive(datagram(), edge_ip(0), NOW_NS)
    assert dict(known.refused) == {"late": 1}


def test_a_cell_event_has_every_slice_and_what_it_holds() -> None:
    known = centre()
    subscription = Subscription("test", Filter("cell"))
    known.stream.subscribe(subscription)
    known.receive(datagram(), edge_ip(0), NOW_NS + 2)
    event = json.loads(next_line(subscription))
    assert {k: event[k] for k in ("kind", "id", "trace_id", "window", "period_ms")} == {
        "kind": "cell",
        "id": "ap1",
        "trace_id": TRACE_ID,
        "window": WINDOW,
        "period_ms": 500,
    }
    assert (event["completed_at_ns"], event["received_at_ns"]) == (NOW_NS, NOW_NS + 2)
    assert (event["capacity_kbps"], event["reservable_kbps"]) == (20_000, 18_000)
    video, control = event["slices"]
    assert video == {
        **slice_demand(1, 4000.0),
        "s_nssai": {"sst": 1, "sd": "000001"},
        "traffic_class": "elastic",
        "reservation": {"min_kbps": 8000, "max_kbps": 20_000},
    }
    assert (control["users"], control["demand_kbps"]) == (0, 0.0)
    assert control["reservation"] == {"min_kbps": 2000, "max_kbps": 2000}


def next_line(subscription: Subscription) -> bytes:
    async def take() -> bytes:
        async for line in subscription.lines():
            return line
        raise AssertionError("the stream ended")

    return asyncio.run(asyncio.wait_for(take(), 2))


def lines_of(subscription: Subscription) -> list[dict[str, Any]]:
    """All queued events; closes the subscription."""

    async def take() -> list[dict[str, Any]]:
        found = []
        async for line in subscription.lines():
            found.append(json.loads(line))
            if subscription.delivered == expected:
                subscription.close()
        return found

    expected = len(subscription._lines)
    return asyncio.run(asyncio.wait_for(take(), 2)) if expected else []


def test_filters_by_kind_id_and_period() -> None:
    hub = StreamHub()
    by_id = Subscription("a", Filter("cell", "ap2"))
    slow = Subscription("b", Filter("cell", None, period_ms=1000))
    other = Subscription("c", Filter("slice"))
    for subscription in (by_id, slow, other):
        hub.subscribe(subscription)
    for tick in range(5):
        for cell_id in ("ap1", "ap2"):
            event = {"kind": "cell", "id": cell_id, "tick": tick}
            hub.publish(event, NOW_NS + tick * PERIOD_NS)
    assert [e["tick"] for e in lines_of(by_id)] == [0, 1, 2, 3, 4]
    assert [(e["id"], e["tick"]) for e in lines_of(slow)] == [
        (cell_id, tick) for tick in (0, 2, 4) for cell_id in ("ap1", "ap2")
    ]
    assert lines_of(other) == []


def test_a_slow_consumer_loses_its_oldest_and_only_its_own() -> None:
    hub = StreamHub()
    slow, quick = Subscription("slow", Filter()), Subscription("quick", Filter())
    hub.subscribe(slow)
    for tick in range(QUEUE_EVENTS):
        hub.publish({"kind": "cell", "id": "ap1", "tick": tick}, tick)
    hub.subscribe(quick)
    for tick in range(QUEUE_EVENTS, QUEUE_EVENTS + 10):
        hub.publish({"kind": "cell", "id": "ap1", "tick": tick}, tick)
    assert (slow.dropped, quick.dropped, hub.dropped) == (10, 0, 10)
    assert [e["tick"] for e in lines_of(slow)][0] == 10
    assert len(lines_of(quick)) == 10
    hub.unsubscribe(slow)
    assert hub.dropped == 10


def test_a_closed_consumer_ends() -> None:
    hub = StreamHub()
    mine, theirs = Subscription("x", Filter()), Subscription("y", Filter())
    hub.subscribe(mine)
    hub.subscribe(theirs)
    hub.close("x")

    async def drain() -> list[bytes]:
        return [line async for line in mine.lines()]

    assert asyncio.run(asyncio.wait_for(drain(), 2)) == []
    hub.publish({"kind": "cell", "id": "ap1"}, 1)
    assert len(lines_of(theirs)) == 1


def test_counters_become_rates_from_the_second_sample_on() -> None:
    known = centre()
    key = ("ap1", 1, TrafficClass.ELASTIC)
    for second, count in enumerate((0, 125_000)):
        sample = CounterSample(NOW_NS + second * 10**9, {key: ClassCount(count, count)}, {})
        known.count(sample)
        attributes = known.level_two.slices["1-000001"].attributes
        assert ("arrived_kbps.ap1" in attributes) is (second == 1)
    assert attributes["arrived_kbps.ap1"].value == 1000.0
    assert attributes["arrived_kbps.ap1"].source == "switch counters"


def placebo_events(seed: int, count: int) -> tuple[list[Any], list[Any]]:
    """(true, shuffled) demand of `count` events whose every demand is unique."""
    known = centre()
    subscription = Subscription("x", Filter(), Placebo(seed).event)
    known.stream.subscribe(subscription)
    true, shuffled = [], []
    for tick in range(count):
        at_ns = NOW_NS + tick * PERIOD_NS
        slices = [slice_demand(1, 1000.0 + tick), slice_demand(2, 9000.0 + tick)]
        aggregate = sample_aggregate(
            window=WINDOW + tick, completed_at_ns=at_ns, sent_at_ns=at_ns + 1000, slices=slices
        )
        known.receive(datagram_of(aggregate), edge_ip(0), at_ns + 2)
        event = json.loads(next_line(subscription))
        assert (event["trace_id"], event["window"]) == (aggregate.trace_id, WINDOW + tick)
        assert (event["completed_at_ns"], event["received_at_ns"]) == (at_ns, at_ns + 2)
        assert [s["slice_id"] for s in event["slices"]] == [1, 2]
        assert event["slices"][0]["reservation"] == {"min_kbps": 8000, "max_kbps": 20_000}
        true += [s["demand_kbps"] for s in slices]
        shuffled += [s["demand_kbps"] for s in event["slices"]]
    return true, shuffled


def test_placebo_permutes_between_slices_and_windows() -> None:
    count = 2 * POOL_SAMPLES
    true, shuffled = placebo_events(7, count)
    assert set(shuffled) <= set(true), "values are real ones"
    assert sum(t == s for t, s in zip(true, shuffled, strict=True)) < count // 20
    video = shuffled[POOL_SAMPLES::2]
    swapped = sum(value >= 9000 for value in video)
    assert 0.35 < swapped / len(video) < 0.65, "video gets control's values as often as its own"
    full = Counter(shuffled[POOL_SAMPLES:])
    assert max(full.values()) <= 2, "once the pool is full each value leaves it once"
    assert placebo_events(7, 5) == placebo_events(7, 5)
    assert placebo_events(7, 50)[1] != placebo_events(8, 50)[1]


def test_placebo_permutes_what_is_read_too() -> None:
    placebo = Placebo(1)
    names = [f"demand_kbps.{n}" for n in range(30)]
    document = {
        "kind": "cell",
        "attributes": {
            **{name: {"value": n, "unit": "kbit/s"} for n, name in enumerate(names)},
            "capacity_kbps": {"value": 20_000},
        },
    }
    shuffled = placebo.twin(document)["attributes"]
    values = [shuffled[name]["value"] for name in names]
    assert sorted(values) == list(range(30))
    assert values != list(range(30))
    assert shuffled["capacity_kbps"] == {"value": 20_000}
    points = [{"window": w, "value": w} for w in range(30)]
    series = placebo.series(points)
    assert [p["window"] for p in series] == list(range(30))
    assert sorted(p["value"] for p in series) == list(range(30))
    assert series != points


def test_the_event_of_an_overlong_absence_is_zero_not_missing() -> None:
    aggregate = sample_aggregate(slices=[], users_reported=0)
    event = cell_event(aggregate, ric_inventory(), [], NOW_NS)
    assert [s["demand_kbps"] for s in event["slices"]] == [0.0, 0.0]
    assert [s["reservation"]["max_kbps"] for s in event["slices"]] == [20_000, 20_000]
