"""Copies of twins: to the centre's readers when they change, to another edge ahead of a handover.

A twin belongs to the edge where its user reports; a copy ahead lets the next edge serve it
from the first moment of the handover, which then brings only what is newer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from controller.contracts.rpc import Handler
from controller.local.service import LocalController
from controller.twins.level_one import changed_at_ns, twin_document

KEPT_AHEAD_S = 30.0
"""A copy whose user did not come in this time is dropped."""


def twin_operations(controller: LocalController) -> dict[str, Handler]:
    """changed {since_ns}; send_ahead {ue_id, edge}; keep_ahead {ue_id}."""

    def changed(since_ns: int) -> list[dict[str, Any]]:
        """Documents of the twins with a report or a forecast that came since."""
        now_ns = time.time_ns()
        twins = (twin for _, twin in sorted(controller.twins.items()))
        return [twin_document(t, now_ns) for t in twins if changed_at_ns(t) > since_ns]

    async def send_ahead(ue_id: str, edge: str) -> dict[str, Any]:
        """LookupError without that twin here; OSError when it did not reach the edge."""
        if controller.windows.attachment(ue_id) is None or ue_id not in controller.twins:
            raise LookupError(f"no twin of {ue_id!r} lives at {controller.edge}")
        twin, started_s = controller.twins[ue_id], time.monotonic()
        size_bytes = await controller.exchange.deliver(twin, edge, 0)
        return {
            "version": twin.version,
            "wire_bytes": size_bytes,
            "duration_ms": (time.monotonic() - started_s) * 1000,
        }

    def keep_ahead(ue_id: str) -> dict[str, int]:
        """The version that is here, which stays until the user comes, or for some time."""
        if ue_id not in controller.twins:
            raise LookupError(f"no twin of {ue_id!r} at {controller.edge}")
        version = controller.twins[ue_id].version

        def drop() -> None:
            twin = controller.twins.get(ue_id)
            absent = controller.windows.attachment(ue_id) is None
            if absent and twin is not None and twin.version == version:
                controller.leave(ue_id, time.time_ns())

        asyncio.get_running_loop().call_later(KEPT_AHEAD_S, drop)
        return {"version": version}

    return {"changed": changed, "send_ahead": send_ahead, "keep_ahead": keep_ahead}
