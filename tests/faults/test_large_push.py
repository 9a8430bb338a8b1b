"""Row 10: very many flows for one switch; echoes of the others do not wait for them."""

from __future__ import annotations

from benchmarks.push import controlled_bridges, measure

FLOWS = 6_000


def test_echoes_do_not_wait_for_a_push() -> None:
    """`bench push` has the figure for 100,000; here the wait is only told from the push."""
    with controlled_bridges() as run:
        found = measure(run, FLOWS)
    for step in ("added", "read", "deleted"):
        waits = found[step]
        assert waits.echoes > 20, f"{step}: echoes were not asked for"
        # Unpaced, they waited for nearly all of it.
        assert waits.ryu_longest_ms < waits.wall_s * 1000 / 3, f"{step}: {waits}"
