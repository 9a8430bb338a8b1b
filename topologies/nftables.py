"""Counters of nftables in a namespace."""

from __future__ import annotations

import orjson

from topologies import namespaces


def read_counters(netns_path: str, table: str) -> dict[str, int]:
    """Named counter of an `inet` table -> packets. Raises `CommandError`."""
    listed = namespaces.run_in(
        netns_path, ["nft", "-j", "list", "counters", "table", "inet", table]
    )
    entries = (entry.get("counter", {}) for entry in orjson.loads(listed)["nftables"])
    return {entry["name"]: entry["packets"] for entry in entries if entry}
