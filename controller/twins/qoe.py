"""Quality of experience: a mean opinion score (1-4.5) from measured loss and delay. Pure.

The model is stated, not fitted: the E-model (ITU-T G.107) as reduced by R. G. Cole and
J. H. Rosenbluth, "Voice over IP Performance Monitoring", ACM SIGCOMM CCR 31(2), 2001, with
its constants for G.711 and random loss:

    R = 94.2 - 0.024 d - 0.11 (d - 177.3) [d > 177.3] - 30 ln(1 + 15 e)
    MOS = 1 + 0.035 R + 7e-6 R (R - 60) (100 - R), 1 below R = 0, 4.5 above R = 100

d: one-way delay in ms (the p95), e: the share of what was offered that did not arrive, so a
rate below the demand counts as well.  A service that is not voice is judged as if it were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

SOURCE = "E-model (Cole and Rosenbluth 2001) on measured loss and delay"
_KNEE_MS = 177.3


def mos(loss_ratio: float, owd_ms: float) -> float:
    """1 (bad) to 4.5."""
    late_ms = max(0.0, owd_ms - _KNEE_MS)
    rating = 94.2 - 0.024 * owd_ms - 0.11 * late_ms - 30 * math.log1p(15 * loss_ratio)
    if rating <= 0:
        return 1.0
    rating = min(rating, 100.0)
    return round(1 + 0.035 * rating + 7e-6 * rating * (rating - 60) * (100 - rating), 3)


def service_mos(leaves: Mapping[str, Any]) -> float | None:
    """Of one service in one direction, by its twin's values; None where nothing was offered.

    Where no packet tells a delay (uplink; TCP; everything lost) only the loss counts.
    """
    if not leaves.get("demand_kbps"):
        return None
    return mos(leaves["loss_ratio"], leaves.get("owd_p95_ms") or 0.0)


def user_mos(services: Iterable[Mapping[str, Any]]) -> float | None:
    """The mean over its services, weighted with what each asks for; None without any."""
    rated = [(s["demand_kbps"], m) for s in services if (m := service_mos(s)) is not None]
    asked_kbps = sum(kbps for kbps, _ in rated)
    return round(sum(kbps * m for kbps, m in rated) / asked_kbps, 3) if asked_kbps else None
