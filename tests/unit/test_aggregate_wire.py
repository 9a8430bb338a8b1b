"""Aggregates on the wire: nothing lost beyond the stated steps, and few bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.contracts import aggregate_wire
from controller.contracts.aggregate_wire import BadAggregate, decode, encode
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from tests.ric_inventory import ric_inventory
from tests.sample_aggregates import NOW_NS, datagram_of, sample_aggregate, slice_demand

CELLS = ric_inventory().cells

demands = st.fixed_dictionaries(
    {
        "users": st.integers(0, 10_000),
        "demand_kbps": st.floats(0, 1e9),
        "goodput_kbps": st.floats(0, 1e9),
        "loss_ratio": st.floats(0, 1),
        "owd_p95_ms": st.none() | st.floats(0, 60_000),
    }
)
aggregates = st.builds(
    lambda slices, **numbers: sample_aggregate(
        slices=[{"slice_id": i, **d} for i, d in sorted(slices.items())], **numbers
    ),
    slices=st.dictionaries(st.integers(0, 15), demands, max_size=6),
    cell_id=st.sampled_from(["ap1", "ap2"]),
    window=st.integers(0, 2**40),
    period_ms=st.integers(1, 60_000),
    completed_at_ns=st.integers(0, 2**62),
    sent_at_ns=st.integers(0, 2**62),
    users_reported=st.integers(0, 10_000),
    users_expected=st.integers(0, 10_000),
)


def idle(slice_id: int) -> dict[str, Any]:
    return slice_demand(slice_id, 0.0, users=0, owd_p95_ms=None)


def near(got: float | None, sent: float | None, step: float) -> bool:
    if got is None or sent is None:
        return got is sent
    return abs(got - sent) <= 0.51 * step + 1e-9 * abs(sent)


@given(st.lists(aggregates, min_size=1, max_size=4))
def test_what_is_sent_arrives_to_within_a_step(sent: list[CellAggregate]) -> None:
    got = [a for d in encode(sent, CELLS) for a in decode(d, CELLS)]
    assert len(got) == len(sent)
    for there, here in zip(got, sent, strict=True):
        assert there.trace_id == here.trace_id
        assert there.edge == next(c.edge for c in CELLS if c.cell_id == here.cell_id)
        for name in ("cell_id", "window", "period_ms", "users_reported", "users_expected"):
            assert getattr(there, name) == getattr(here, name)
        for name in ("completed_at_ns", "sent_at_ns"):
            assert 0 <= getattr(here, name) - getattr(there, name) < 1000
        assert [d.slice_id for d in there.slices] == [d.slice_id for d in here.slices]
        for a, b in zip(there.slices, here.slices, strict=True):
            if aggregate_wire._is_busy(b):
                for name, step in aggregate_wire.SLICE_STEPS.items():
                    assert near(getattr(a, name), getattr(b, name), step), name
                assert near(a.owd_p95_ms, b.owd_p95_ms, aggregate_wire.DELAY_STEP_MS)
            else:
                assert a == SliceDemand(
                    **{**slice_demand(b.slice_id, 0.0, users=0), "owd_p95_ms": None}
                )


def test_every_field_is_sent_or_derived() -> None:
    """A field that a message gains must be given a place on the wire."""
    assert {*aggregate_wire.SLICE_STEPS, "owd_p95_ms", "slice_id"} == set(SliceDemand.model_fields)
    busy = sample_aggregate(slices=[slice_demand(i, 1500.0, loss_ratio=0.25) for i in (1, 2)])
    assert decode(datagram_of(busy), CELLS) == [busy]


def test_a_cell_of_three_slices_is_a_few_tens_of_bytes() -> None:
    slices = [slice_demand(i, 4321.57, loss_ratio=0.001, owd_p95_ms=37.5) for i in (1, 2, 3)]
    crowded = sample_aggregate(slices=slices, completed_at_ns=NOW_NS + 187_654_000)
    assert len(datagram_of(crowded)) <= 56
    empty = sample_aggregate(
        slices=[slice_demand(i, 0.0, users=0, owd_p95_ms=None) for i in (1, 2, 3)]
    )
    assert len(datagram_of(empty)) <= 20


def test_many_cells_are_split_into_datagrams_that_fit_a_frame() -> None:
    datagrams = encode([sample_aggregate() for _ in range(100)], CELLS)
    assert len(datagrams) > 1
    assert max(map(len, datagrams)) <= aggregate_wire.MAX_DATAGRAM_BYTES


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    for datagram in (payload, bytes([aggregate_wire.VERSION]) + payload):
        try:
            found: list[Any] = decode(datagram, CELLS)
        except BadAggregate:
            continue
        assert all(isinstance(a, CellAggregate) for a in found)


def test_every_cut_is_noticed() -> None:
    whole = datagram_of(sample_aggregate())
    for length in range(len(whole)):
        with pytest.raises(BadAggregate):
            decode(whole[:length], CELLS)
