"""The kernel's HTB classes on the wire: what goes out is what a dump gives back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.contracts.queue_tree import LEAST_RATE_KBPS, QueueRates
from controller.contracts.rtnetlink import messages
from controller.htb_classes import (
    HtbClass,
    class_message,
    class_of,
    classes_in,
    ticks_per_s,
)

pytestmark = pytest.mark.unit

PSCHED = "000003e8 00000040 000f4240 3b9aca00\n"
MTU_BYTES = 1500


def test_a_tick_of_64_ns_is_read_from_the_kernel_s_words() -> None:
    assert ticks_per_s(PSCHED) == 1e9 / 64


def test_rates_become_what_open_vswitch_makes_of_their_row() -> None:
    """As read from the kernel after Open vSwitch 3.1 had set these rates."""
    found = class_of(QueueRates(2035, 2646, 4), MTU_BYTES, ticks_per_s(PSCHED))
    assert found == HtbClass(254_375, 330_750, 368_550, 283_446, 4)


@given(
    least=st.integers(LEAST_RATE_KBPS, 10_000_000),
    more=st.integers(0, 10_000_000),
    priority=st.integers(0, 7),
    queue_id=st.integers(0, 60_000),
)
def test_every_class_is_read_as_it_was_sent(
    least: int, more: int, priority: int, queue_id: int
) -> None:
    rates = QueueRates(least, least + more, priority)
    wanted = class_of(rates, MTU_BYTES, ticks_per_s(PSCHED))
    assert wanted.rates == rates
    sent = class_message(7, 0x10000 | queue_id, 0x1FFFE, wanted)
    assert list(classes_in(sent)) == [(0x10000 | queue_id, 0x1FFFE, wanted)]


def test_messages_follow_each_other_in_a_datagram_and_a_broken_one_ends_it() -> None:
    one = class_message(7, 0x10001, 0x1FFFE, HtbClass(1500, 1500, 1, 1, 0))
    assert len(list(messages(one + one))) == 2
    assert len(list(messages(one + b"\x03\0\0\0" + b"\0" * 12))) == 1
