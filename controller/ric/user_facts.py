"""What the network knows of a user, joined to its twin when that is read.

Profile and device come from the inventory, allocated resources from what the switches
confirmed: none of it travels with reports, and none of it can be old.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.contracts.inventory import Inventory, User
from controller.twins.twin import Attribute, Twin

Document = dict[str, Any]


def _document(value: Any, unit: str | None, source: str, at_ns: int, now_ns: int) -> Document:
    return {
        "value": value,
        "unit": unit,
        "measured_at": at_ns,
        "age_ms": (now_ns - at_ns) / 1e6,
        "period_ms": None,
        "source": source,
    }


def profile(user: User, inventory: Inventory, started_at_ns: int, now_ns: int) -> Document:
    """Attributes of the group `user`."""
    facts: list[tuple[str, Any, str | None]] = [
        ("slices", [str(s.s_nssai) for s in user.sessions], None),
        ("handover_kind", inventory.handover_of(user.ue_id).kind, None),
    ]
    if user.device is not None:
        facts += [
            ("compute_cores", user.device.compute_cores, "cores"),
            ("cache_bytes", user.device.cache_bytes, "bytes"),
        ]
    return {n: _document(v, unit, "scenario", started_at_ns, now_ns) for n, v, unit in facts}


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
    found: dict[str, Document] = {}
    here = {u for u, cell_id in attachments.items() if cell_id == attachments[user.ue_id]}
    for session in user.sessions:
        name = str(session.s_nssai)
        sharing = sum(
            any(s.slice_id == session.slice_id for s in other.sessions)
            for other in inventory.users
            if other.ue_id in here
        )
        limit_mbps = inventory.slice(session.slice_id).user_max_mbps
        meter_kbps = None if limit_mbps is None else round(limit_mbps * 1000)
        leaves = {
            "users_sharing": _document(sharing, "count", "attachments", now_ns, now_ns),
            "user_meter_kbps": _document(meter_kbps, "kbit/s", "slice", started_at_ns, now_ns),
        }
        for leaf, key in (("queue_min_kbps", "min_kbps"), ("queue_max_kbps", "max_kbps")):
            held = cell.attributes.get(f"{key}.{name}")
            if held is not None:
                leaves[leaf] = _of_cell(held, held.value, now_ns)
                if leaf == "queue_min_kbps" and held.value is not None:
                    leaves["queue_share_kbps"] = _of_cell(held, held.value / sharing, now_ns)
        found[name] = leaves
    return found


def _of_cell(held: Attribute, value: float | None, now_ns: int) -> Document:
    return _document(value, "kbit/s", held.source, held.measured_at_ns, now_ns)
