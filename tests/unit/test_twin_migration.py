"""Twins that move between edges: no version lost, nothing believed that is not a twin."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable

import orjson
import pytest

from controller.local.exchange import Exchange
from controller.local.twin_migration import (
    MAX_MESSAGE_BYTES,
    Arrival,
    BadMessage,
    decoded,
    head_message,
    history_message,
    versions_missing,
    with_head,
    with_history,
)
from controller.twins.level_one import (
    Prediction,
    UserTwin,
    merge_predictions,
    merge_report,
    twin_document,
)
from tests.sample_reports import sample_flow, sample_report

LENGTH = 60


def twin_of(sequences: range, twin: UserTwin | None = None) -> UserTwin:
    for sequence in sequences:
        report = sample_report(sequence=sequence, measured_at_ns=1_000_000_000 + sequence)
        twin = merge_report(twin, report, report.measured_at_ns, LENGTH)
    assert twin is not None
    return twin


def test_a_twin_arrives_as_it_left() -> None:
    horizon = {"horizon_ms": 1000, "value": [1.0, 2.0], "radius_m": {"0.5": 1.0}}
    twin = merge_predictions(
        twin_of(range(1, 41)), {"user.location_m": Prediction.of(5, "model 1", [horizon])}
    )
    head = decoded(head_message(twin, 7))
    assert (head.ue_id, head.left_at_ns) == (twin.ue_id, 7)
    assert head.twin is not None
    here = with_head(None, head.twin)
    here = with_history(here, decoded(history_message(twin, 7)).history, LENGTH)
    assert here.history == twin.history
    assert orjson.dumps(twin_document(here, 9)) == orjson.dumps(twin_document(twin, 9))


def test_the_head_is_small_enough_for_a_link_of_a_megabit() -> None:
    """1.2 Mbit/s, slice 0's share of a small uplink, carries 7,500 bytes in 50 ms."""
    assert len(head_message(twin_of(range(1, 61)), 7)) < 2000


def test_the_history_is_about_half_of_what_its_reports_are_as_json() -> None:
    """What a twin sends after itself is in front of the next twin's head."""
    noise = random.Random(1)
    twin = None
    for sequence in range(1, 241):
        flows = [
            sample_flow(
                service=service,
                demand_kbps=round(noise.uniform(300, 900), 3),
                goodput_kbps=round(noise.uniform(300, 900), 3),
                loss_ratio=round(noise.uniform(0, 0.02), 6),
                owd_p95_ms=round(noise.uniform(2, 20), 3),
            )
            for service in "abcd"
        ]
        at_ns = sequence * 500_000_000 + noise.randrange(10**6)
        report = sample_report(sequence=sequence, measured_at_ns=at_ns, flows=flows)
        twin = merge_report(twin, report, at_ns, LENGTH)
    assert twin is not None
    message = history_message(twin, 7)
    as_json = zlib.compress(b"\n".join(twin.history), 6)
    assert len(message) < 0.6 * len(as_json), (len(message), len(as_json))
    assert list(decoded(message).history) == twin.history.reports()


def changed(history: dict[str, object]) -> bytes:
    return zlib.compress(orjson.dumps({"ue_id": "ue1", "left_at_ns": 1, "history": history}))


def test_a_history_that_cannot_be_read_is_refused() -> None:
    good = orjson.loads(zlib.decompress(history_message(twin_of(range(5, 6)), 7)))["history"]
    assert [r.sequence for r in decoded(changed(good)).history] == [5]
    (form,) = good["forms"]
    shape = form["shape"]
    for history in (
        [],
        {**good, "records": good["records"][:-4]},
        {**good, "records": "%"},
        {**good, "forms": []},
        {**good, "forms": [{**form, "steps": form["steps"][:-1]}]},
        {**good, "forms": [{**form, "bits": "many"}]},
        {**good, "forms": [{**form, "shape": {**shape, "cell_id": 7}}]},
        {**good, "forms": [{**form, "shape": {"cell_id": "ap1"}}]},
        {**good, "forms": [{**form, "bases": [2**62, 2**63 - 1, *form["bases"][2:]]}]},
        {**good, "forms": [{**form, "bits": [64, *form["bits"][1:]]}]},
        {**good, "forms": [{**form, "shape": {**shape, "without_delay": [9]}}]},
    ):
        with pytest.raises(BadMessage):
            decoded(changed(history))


def test_reports_that_came_first_are_kept_and_the_past_is_put_before_them() -> None:
    left = twin_of(range(1, 31))
    newer = twin_of(range(31, 34))
    head = decoded(head_message(left, 7)).twin
    assert head is not None
    here = with_head(newer, head)
    assert here.version == 33
    merged = with_history(here, left.history.reports(), LENGTH)
    assert merged.history.sequences() == list(range(1, 34))
    assert versions_missing(merged, 1) == 0


def test_a_report_lost_on_the_way_is_counted() -> None:
    merged = with_history(twin_of(range(33, 35)), twin_of(range(1, 31)).history.reports(), LENGTH)
    assert versions_missing(merged, 1) == 2


def test_history_stays_bounded() -> None:
    merged = with_history(twin_of(range(61, 101)), twin_of(range(1, 61)).history.reports(), LENGTH)
    assert merged.history.sequences() == list(range(41, 101))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not compressed",
        zlib.compress(b"not json"),
        zlib.compress(b"[]"),
        zlib.compress(b'{"ue_id": "ue1"}'),
        zlib.compress(b'{"ue_id": "ue1", "left_at_ns": 1, "twin": {"version": 1}}'),
        zlib.compress(bytes(MAX_MESSAGE_BYTES + 1)),
        zlib.compress(b'{"ue_id": "ue1", "left_at_ns": 1, "history": ["x"]}')[:-3],
    ],
)
def test_what_is_no_twin_is_refused(message: bytes) -> None:
    with pytest.raises(BadMessage):
        decoded(message)


# -- over real sockets: two edges on addresses of the loopback interface --------------------

EDGES = {"edge1": "127.0.57.1", "edge2": "127.0.57.2"}


async def _exchanged(twin: UserTwin, take: Callable[[Arrival], None]) -> tuple[Exchange, Exchange]:
    old, new = (Exchange(EDGES[e], EDGES, take) for e in ("edge1", "edge2"))
    await new.start()
    done = asyncio.Event()
    old.send(twin, "edge2", 7, done.set)
    async with asyncio.timeout(5):
        await done.wait()
    new.close()
    return old, new


def test_both_messages_arrive_in_order_over_tcp() -> None:
    arrivals: list[Arrival] = []
    twin = twin_of(range(1, 61))
    old, new = asyncio.run(_exchanged(twin, arrivals.append))
    assert (old.sent, old.failed, new.refused) == (1, 0, 0)
    assert [a.twin is None for a in arrivals] == [False, True]
    assert list(arrivals[1].history) == twin.history.reports()
    assert len(new.gaps_ms) == 1
    assert old.bytes_sent == sum(
        4 + len(m) for m in (head_message(twin, 7), history_message(twin, 7))
    )


def test_a_refused_twin_counts_as_failed_where_it_came_from() -> None:
    def refuse(_: Arrival) -> None:
        raise ValueError("unknown user")

    old, new = asyncio.run(_exchanged(twin_of(range(1, 3)), refuse))
    assert (old.sent, old.failed, new.refused) == (0, 1, 1)


def test_an_edge_that_is_gone_is_counted_and_the_old_one_lets_go() -> None:
    async def alone() -> Exchange:
        old = Exchange(EDGES["edge1"], EDGES, lambda _: None)
        done = asyncio.Event()
        old.send(twin_of(range(1, 3)), "edge2", 7, done.set)
        async with asyncio.timeout(5):
            await done.wait()
        return old

    assert asyncio.run(alone()).failed == 1


def test_a_copy_ahead_of_a_handover_is_no_gap_and_its_failure_is_told() -> None:
    twin = twin_of(range(1, 4))

    async def copied() -> tuple[Exchange, int, list[Arrival]]:
        arrived: list[Arrival] = []
        old, new = (Exchange(EDGES[e], EDGES, arrived.append) for e in ("edge1", "edge2"))
        await new.start()
        size_bytes = await old.deliver(twin, "edge2", 0)
        new.close()
        with pytest.raises(OSError):
            await old.deliver(twin, "edge2", 0)
        return new, size_bytes, arrived

    new, size_bytes, arrived = asyncio.run(copied())
    assert list(new.gaps_ms) == [], "nobody waited for this twin"
    assert size_bytes == sum(len(m(twin, 0)) + 4 for m in (head_message, history_message))
    assert [a.twin is not None for a in arrived] == [True, False]


def test_reports_in_a_moved_history_are_reports() -> None:
    twin = twin_of(range(1, 5))
    moved = decoded(history_message(twin, 7)).history
    assert [report.sequence for report in moved] == [1, 2, 3, 4]
