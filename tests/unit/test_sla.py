"""SLA terms, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controller.contracts.slices import DelayBound, SliceSla
from topologies.results.sla import judge
from topologies.results.windows import SliceWindows

SLA = SliceSla(guaranteed_mbps=10, delay=DelayBound(percentile=95, bound_ms=20), loss_ratio=0.01)


def one_window(
    offered: float = 8,
    goodput: float = 8,
    sent: int = 1000,
    lost: int = 0,
    delays_ms: tuple[float, ...] = (5.0,) * 100,
) -> SliceWindows:
    return SliceWindows(
        slice_id=1,
        offered_mbps=np.array([offered]),
        goodput_mbps=np.array([goodput]),
        l2_rate_mbps=np.array([goodput]),
        sent_packets=np.array([sent]),
        lost_packets=np.array([lost]),
        delay_ms=np.array(delays_ms),
        delay_window=np.zeros(len(delays_ms), dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("window", "terms"),
    [
        ({}, (True, True, True)),
        # goodput: less than offered by 1 % is tolerated, by more is not
        ({"goodput": 7.93}, (True, True, True)),
        ({"goodput": 7.91}, (False, True, True)),
        # more offered than guaranteed: the guarantee is owed, not the offer
        ({"offered": 30, "goodput": 9.95}, (True, True, True)),
        ({"offered": 30, "goodput": 9.8}, (False, True, True)),
        # delay: 5 of 100 late is p95 within the bound, 6 is not
        ({"delays_ms": (5.0,) * 95 + (50.0,) * 5}, (True, True, True)),
        ({"delays_ms": (5.0,) * 94 + (50.0,) * 6}, (True, False, True)),
        # loss: at the bound holds, above it not
        ({"lost": 10}, (True, True, True)),
        ({"lost": 11}, (True, True, False)),
        # everything lost: no packet met the bound
        ({"goodput": 0, "lost": 1000, "delays_ms": ()}, (False, False, False)),
        # nothing sent: nothing promised
        ({"offered": 0, "goodput": 0, "sent": 0, "delays_ms": ()}, (True, True, True)),
    ],
)
def test_terms(window: dict[str, Any], terms: tuple[bool, bool, bool]) -> None:
    verdicts = judge(SLA, one_window(**window))
    assert (verdicts.goodput[0], verdicts.delay[0], verdicts.loss[0]) == terms
    assert verdicts.satisfied[0] == all(terms)


def test_absent_terms_hold() -> None:
    sla = SliceSla(guaranteed_mbps=10)
    verdicts = judge(sla, one_window(lost=900, delays_ms=(9999.0,)))
    assert verdicts.satisfied.all()
