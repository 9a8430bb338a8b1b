"""Use-case data of a user's report: what its own instruments say. Pure but for the last place.

A vehicle's compass and odometer are read off its own track, as a satellite receiver does it:
course over ground between two fixes.  An operation log counts the messages that the user's
applications really sent and received.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from topologies.user_reports import FlowTable, Totals

LEAST_STEP_M = 0.01
"""Nearer fixes have no course."""

PositionM = tuple[float, float]


def course_deg(before_m: PositionM, after_m: PositionM) -> float | None:
    """Clockwise from the y axis, 0-360; None when the user stood."""
    if math.dist(before_m, after_m) < LEAST_STEP_M:
        return None
    east_m, north_m = after_m[0] - before_m[0], after_m[1] - before_m[1]
    return round(math.degrees(math.atan2(east_m, north_m)) % 360, 2)


def operations(table: FlowTable, totals: Totals) -> int:
    """Messages sent and received so far by the user's own end of its flows."""
    own = np.where(table.is_up, totals["sent_packets"], totals["received_packets"])
    return int(own.sum())


class Instruments:
    """Of all users, by index: where each was at its last report, and how far it came."""

    def __init__(self) -> None:
        self._fixes: dict[int, tuple[PositionM, float]] = {}

    def read(
        self, index: int, here_m: PositionM, table: FlowTable, totals: Totals
    ) -> dict[str, Any]:
        """Fields of a `UserReport`; the heading is missing while the user stands."""
        before_m, come_m = self._fixes.get(index, (here_m, 0.0))
        come_m += math.dist(before_m, here_m)
        self._fixes[index] = (here_m, come_m)
        heading = course_deg(before_m, here_m)
        return {
            **({} if heading is None else {"heading_deg": heading}),
            "odometer_m": round(come_m, 3),
            "operations": operations(table, totals),
        }
