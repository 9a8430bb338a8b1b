"""What a local controller tells of itself, as one document."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.local.service import LocalController


def status_document(controller: LocalController, now_ns: int) -> dict[str, Any]:
    o, exchange = controller.observations, controller.exchange
    return {
        "pid": os.getpid(),
        "edge": controller.edge,
        "priority": controller.priority,
        "cells": sorted(controller.cells),
        "twins": len(controller.twins),
        "attached": len(controller.windows.attached_users()),
        "accepted": o.accepted,
        "rejected": dict(o.rejected),
        "updates_per_s": o.updates_per_s(now_ns),
        "datagrams": o.datagrams,
        "bytes_on_wire": o.bytes_on_wire,
        "kernel_drops": controller.kernel_drops(),
        "aggregates": o.aggregates,
        "incomplete_aggregates": o.incomplete_aggregates,
        "aggregate_bytes_on_wire": o.aggregate_bytes_on_wire,
        "late_reports": controller.windows.late_samples,
        "send_errors": o.send_errors,
        "handovers": dict(controller.handovers.outcomes),
        "reaction_ms": o.reaction_ms(),
        "orders": dict(controller.models.counts),
        "predictions": controller.predictor.report(),
        "migrations": {
            "sent": exchange.sent,
            "failed": exchange.failed,
            "refused": exchange.refused,
            "bytes": exchange.bytes_sent,
            "gaps_ms": list(exchange.gaps_ms),
            "versions_lost": controller.versions_lost,
        },
    }
