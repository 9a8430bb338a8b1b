"""What the network knows of a user, joined to its twin when that is read.

Profile and device come from the inventory, allocated resources from what the switches
confirmed: none of it travels with reports, and none of it can be old.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.contracts.inventory import Inventory, User
from controller.twins.level_one import UNITS
from controller.twins.twin import Twin

Document = dict[str, Any]


def profile(user: User, inventory: Inventory, started_at_ns: int, now_ns: int) -> Document:
    """Attributes of the group `user`."""
    facts: Document = {
        "slices": [str(s.s_nssai) for s in user.sessions],
        "handover_kind": inventory.handover_of(user.ue_id).kind,
    }
    if user.device is not None:
        facts |= user.device.model_dump()
    return {n: _document(n, v, "scenario", started_at_ns, now_ns) for n, v in facts.items()}


def resources(
    user: User,
    inventory: Inventory,
    attachments: Mapping[str, str],
    cell: Twin,
    started_at_ns: int,
    now_ns: int,
) -> dict[str, Document]:
    """By slice: its queue in the user's cell, the user's even share of it, the user's meter.

    `cell`: the twin of the serving cell, whose `min_kbps` and `max_kbps` are confirmed.
    """
    here = {u for u, cell_id in attachments.items() if cell_id == attachments[user.ue_id]}
    present = [other for other in inventory.users if other.ue_id in here]
    found: dict[str, Document] = {}
    for session in user.sessions:
        sharing = sum(any(s.slice_id == session.slice_id for s in u.sessions) for u in present)
        limit_mbps = inventory.slice(session.slice_id).user_max_mbps
        meter_kbps = None if limit_mbps is None else round(limit_mbps * 1000)
        found[str(session.s_nssai)] = {
            "users_sharing": _document("users_sharing", sharing, "attachments", now_ns, now_ns),
            "user_meter_kbps": _document(
                "user_meter_kbps", meter_kbps, "slice", started_at_ns, now_ns
            ),
            **_queue(cell, str(session.s_nssai), sharing, now_ns),
        }
    return found


def _queue(cell: Twin, s_nssai: str, sharing: int, now_ns: int) -> Document:
    """Empty where the slice holds no reservation in the cell."""
    low, high = (cell.attributes.get(f"{key}.{s_nssai}") for key in ("min_kbps", "max_kbps"))
    if low is None or high is None or low.value is None:
        return {}
    values = {
        "queue_min_kbps": low.value,
        "queue_max_kbps": high.value,
        "queue_share_kbps": low.value / sharing,
    }
    return {
        name: _document(name, value, low.source, low.measured_at_ns, now_ns)
        for name, value in values.items()
    }


def _document(name: str, value: Any, source: str, at_ns: int, now_ns: int) -> Document:
    return {
        "value": value,
        "unit": UNITS[name],
        "measured_at": at_ns,
        "age_ms": (now_ns - at_ns) / 1e6,
        "period_ms": None,
        "source": source,
    }
