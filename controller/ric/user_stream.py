"""User twins on the stream: read at the edges while somebody subscribes, published when changed.

A twin changes when a report is merged and again when its forecasts are made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controller.ric.stream import Event, StreamHub

POLL_S = 0.1

ChangedSince = Callable[[int], Awaitable[Mapping[str, dict[str, Any]]]]
"""ue_id -> document of every twin that changed after a time (CLOCK_REALTIME, ns)."""


class UserTwinFeed:
    """Costs nothing while nobody subscribes to users."""

    def __init__(self, changed_since: ChangedSince, hub: StreamHub) -> None:
        self._changed_since = changed_since
        self._hub = hub
        self._shown: dict[str, tuple[int, int]] = {}
        """ue_id -> (version, time of its newest forecast) as last published."""

    async def run(self) -> None:
        since_ns = time.time_ns()
        while True:
            await asyncio.sleep(POLL_S)
            if not any(s.wanted.kind == "user" for s in self._hub.subscriptions):
                since_ns = time.time_ns()
                continue
            asked_ns = time.time_ns()
            for ue_id, twin in sorted((await self._changed_since(since_ns)).items()):
                self._publish(ue_id, twin)
            since_ns = asked_ns

    def _publish(self, ue_id: str, twin: dict[str, Any]) -> None:
        mark = int(twin["version"]), forecast_at_ns(twin)
        # Two edges may both have changed it during a handover: never backwards.
        if mark > self._shown.get(ue_id, (-1, -1)):
            self._shown[ue_id] = mark
            event: Event = {**twin, "kind": "user", "id": ue_id}
            self._hub.publish(event, time.time_ns())


def forecast_at_ns(twin: Mapping[str, Any]) -> int:
    """0 without a forecast of where the user will be."""
    predicted = twin.get("user", {}).get("location_m", {}).get("predicted", {})
    return int(predicted.get("made_at", 0))
