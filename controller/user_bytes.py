"""Bytes by (cell, slice, class) and by (user, cell), as the RIC judges effects by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.contracts.addressing import ipv6_of
from controller.contracts.slices import dscp_of, queue_of
from controller.counters import Counters
from controller.network_view import Network
from controller.reservations import down_port
from controller.ric.measurement import ClassCount, ClassKey, UserMeterCount
from controller.switch_program import Direction

UserCell = tuple[str, str]
"""(ue_id, cell_id)"""


def class_counts(network: Network, counters: Counters) -> dict[ClassKey, ClassCount]:
    """Downlink only: arrived at the meter, sent by the queue of its own, if it has one."""
    sent_bytes = {(q.interface, q.queue_id): q.tx_bytes for q in counters.queues}
    found: dict[ClassKey, ClassCount] = {}
    for meter in counters.meters:
        if meter.direction is not Direction.DOWN or meter.traffic_class is None:
            continue
        interface = down_port(network, network.cells[meter.cell_id]).interface
        queue_id = queue_of(dscp_of(meter.slice_id, meter.traffic_class))
        own = queue_id >> 2 == meter.slice_id
        found[meter.cell_id, meter.slice_id, meter.traffic_class] = ClassCount(
            arrived_bytes=meter.bytes,
            delivered_bytes=sent_bytes.get((interface, queue_id)) if own else None,
        )
    return found


def user_meter_counts(counters: Counters) -> dict[tuple[str, int], UserMeterCount]:
    """(ue_id, slice_id) -> downlink bytes at the user's meters in all cells together."""
    found: dict[tuple[str, int], UserMeterCount] = {}
    for meter in counters.meters:
        if meter.ue_id is not None and meter.direction is Direction.DOWN:
            key = meter.ue_id, meter.slice_id
            before = found.get(key, UserMeterCount(0, 0))
            found[key] = UserMeterCount(
                before.arrived_bytes + meter.bytes, before.dropped_bytes + meter.drop_bytes
            )
    return found


class UserBytes:
    """Adds up what the air passed on to each user from each cell.

    The rules that count come and go with handovers; what a rule had counted when
    it was last read stays in the total.
    """

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], int] = {}
        self._live: dict[tuple[str, str], int] = {}
        self._users: dict[tuple[str, str], UserCell] = {}

    def add(self, network: Network, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """`answers`: switch -> its counters, as ryu_app.py gives them."""
        cell_of_port = {str(c.air_port): c.cell_id for c in network.cells.values()}
        user_of_ip = {
            ip: u.ue_id
            for u in network.users.values()
            for a in network.user_addresses(u)
            for ip in (a.ip, ipv6_of(a.ip))
        }
        seen: dict[tuple[str, str], int] = {}
        for answer in answers.values():
            for rule in answer.get("users", ()):
                match = rule["match"]
                key = str(match["in_port"]), match.get("ipv4_dst") or match["ipv6_dst"]
                if key[0] in cell_of_port and key[1] in user_of_ip:
                    seen[key] = rule["bytes"]
                    self._users[key] = user_of_ip[key[1]], cell_of_port[key[0]]
        for key, count in self._live.items():
            if seen.get(key, 0) < count:
                self._ended[key] = self._ended.get(key, 0) + count
        self._live = seen

    def totals(self) -> dict[UserCell, int]:
        found: dict[UserCell, int] = {}
        for key, who in self._users.items():
            count = self._ended.get(key, 0) + self._live.get(key, 0)
            found[who] = found.get(who, 0) + count
        return found
