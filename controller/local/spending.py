"""What an edge's twins cost, as received, and what decides where a budget is well spent."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from controller.contracts.twin_budget import EdgeSpent, UserSpent
from controller.local.admission import Roster
from controller.local.demand_tracks import DemandTracks
from controller.local.wire import wire_bytes
from controller.twins.level_one import UserTwin

if TYPE_CHECKING:
    from controller.local.service import LocalController

MOVING_MPS = 0.5


class Received:
    """Datagrams and wire bytes by source address: one addition a datagram."""

    def __init__(self) -> None:
        self._by_ip: dict[str, tuple[int, int]] = {}

    def add(self, source_ip: str, size_bytes: int) -> None:
        datagrams, so_far = self._by_ip.get(source_ip, (0, 0))
        self._by_ip[source_ip] = (datagrams + 1, so_far + size_bytes)

    def of(self, source_ip: str) -> tuple[int, int]:
        return self._by_ip.get(source_ip, (0, 0))


def user_spent(
    twin: UserTwin, cell_id: str, received: tuple[int, int], tracks: DemandTracks
) -> UserSpent:
    latest = tracks.latest(twin.ue_id)
    rsrp = twin.attributes.get("connectivity.rsrp_dbm")
    speed = twin.attributes.get("user.speed_mps")
    return UserSpent(
        ue_id=twin.ue_id,
        cell_id=cell_id,
        datagrams=received[0],
        wire_bytes=received[1],
        demand_kbps=latest.demand_kbps if latest else {},
        growth_kbps_per_s=tracks.growth_kbps_per_s(twin.ue_id),
        observed_s=tracks.observed_s(twin.ue_id),
        loss_ratio=latest.loss_ratio if latest else {},
        handover_margin_db=handover_margin_db(rsrp.value if rsrp else {}, cell_id),
        is_moving=speed is not None and float(speed.value) >= MOVING_MPS,
    )


def handover_margin_db(rsrp_dbm: Mapping[str, float], cell_id: str) -> float | None:
    others = [dbm for cell, dbm in rsrp_dbm.items() if cell != cell_id]
    if cell_id not in rsrp_dbm or not others:
        return None
    return float(rsrp_dbm[cell_id]) - float(max(others))


def edge_spent(controller: LocalController, roster: Roster) -> EdgeSpent:
    """All of it at this moment."""
    users = []
    for ue_id, twin in sorted(controller.twins.items()):
        attachment = controller.windows.attachment(ue_id)
        if attachment is not None:
            received = controller.received.of(roster.users[ue_id].ip)
            users.append(user_spent(twin, attachment[0], received, controller.tracks))
    counts, seen = controller.models.counts, controller.observations
    return EdgeSpent(
        edge=controller.edge,
        pid=os.getpid(),
        at_ns=time.monotonic_ns(),
        processor_s=time.process_time(),
        report_datagrams=seen.datagrams,
        report_bytes=seen.bytes_on_wire,
        order_bytes=counts["order_bytes"] + wire_bytes(0) * counts["orders"],
        aggregate_bytes=seen.aggregate_bytes_on_wire,
        move_bytes=controller.exchange.bytes_sent,
        users=users,
    )
