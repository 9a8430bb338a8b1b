"""What a packet of each slice passes on its way down to a cell: switches, and wires that delay.

Facts of the inventory: every access point is joined to the core, every user to the air; a
second path between access points is a detour that stands by (`controller/failover.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controller.contracts.inventory import Cell, Host, Inventory, SwitchRole
from controller.whatif.links import FloatArray


@dataclass(frozen=True)
class Paths:
    """Both [cell, slice], in the inventory's order, of the slice's farthest service."""

    hosts: int
    """Of the network: each is a port that the userspace switch polls, on every path."""
    switches: FloatArray
    """Passed, the air included."""
    configured_ms: FloatArray
    """Sum of the wires' delays."""


def paths_of(inventory: Inventory) -> Paths:
    """Where services are now placed; a slice without any is served at its cells."""
    core = [s.name for s in inventory.switches if s.role is SwitchRole.CORE]
    delay_ms = {(p.switch, p.peer): p.delay_ms for p in inventory.ports}

    def way(host: Host, cell: Cell) -> tuple[float, int]:
        names = list(dict.fromkeys([host.switch, *core, cell.switch]))
        if host.switch == cell.switch:
            names = [cell.switch]
        wires = [(host.switch, host.name), *pairwise(names)]
        return sum(delay_ms.get(wire, 0.0) for wire in wires), len(names) + 1

    served_by = {
        s.slice_id: [inventory.host(x.host) for x in inventory.services if x.slice_id == s.slice_id]
        for s in inventory.slices
    }
    farthest = np.array(
        [
            [
                max((way(h, cell) for h in served_by[s.slice_id]), default=(0.0, 2))
                for s in inventory.slices
            ]
            for cell in inventory.cells
        ]
    ).reshape(len(inventory.cells), len(inventory.slices), 2)
    return Paths(len(inventory.hosts), farthest[:, :, 1], farthest[:, :, 0])
