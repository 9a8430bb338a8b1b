"""Leaves of the queue trees: each class drops its oldest frame when full, not the newest.

With HTB's own leaf (pfifo, tail drop) a full class makes the kernel answer
ENOBUFS to vswitchd's sendmmsg, and vswitchd then gives up the rest of its batch:
frames of other queues, lost for nothing and counted by nobody (measured: 8 % of a
saturating filler's frames).  pfifo_head_drop answers "congestion" (NET_XMIT_CN),
which is no error to the sender, so each lost frame is one drop of its own class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from topologies.namespaces import run

_CLASS = re.compile(r"^class htb 1:([0-9a-f]+) parent 1:fffe", re.MULTILINE)


def leaf_commands(interface: str, class_listing: str, limit_packets: int) -> list[str]:
    """tc batch lines that give every class below the root a head-drop leaf. Pure.

    `class_listing`: what `tc class show dev INTERFACE` prints.
    """
    return [
        f"qdisc replace dev {interface} parent 1:{minor} pfifo_head_drop limit {limit_packets}"
        for minor in _CLASS.findall(class_listing)
    ]


def install(queue_packets: Mapping[str, int]) -> None:
    """In the switches' namespace, once all queues exist. Raises `CommandError`."""
    lines = [
        line
        for interface, limit_packets in queue_packets.items()
        for line in leaf_commands(
            interface, run(["tc", "class", "show", "dev", interface]), limit_packets
        )
    ]
    run(["tc", "-batch", "-"], stdin="\n".join(lines) + "\n")
