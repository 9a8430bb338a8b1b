"""What a probe says of a span of time: losses, and the longest silence, at its edges too."""

from __future__ import annotations

import pytest

from topologies.path_probe import Direction

pytestmark = pytest.mark.unit

MS = 1_000_000


def direction(lost: range) -> Direction:
    """A packet a millisecond for a tenth of a second, each 2 ms under way."""
    made = Direction()
    made.sent_ns = [n * MS for n in range(100)]
    made.arrived_ns = {n: (n + 2) * MS for n in range(100) if n not in lost}
    return made


@pytest.mark.parametrize(
    ("lost", "gap_ms"),
    [
        (range(0), 1),
        (range(40, 50), 11),
        (range(0, 10), 12),  # from the first one's sending to the first arrival
        (range(90, 100), 9),  # from the last arrival to the end
        (range(0, 100), 100),
        (range(1, 100), 98),
    ],
)
def test_the_longest_silence_counts_what_was_lost_at_the_edges(lost: range, gap_ms: int) -> None:
    found = direction(lost).between(0, 100 * MS)
    assert (found.sent, found.lost) == (100, len(lost))
    assert found.longest_gap_ms == gap_ms
