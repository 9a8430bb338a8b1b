"""Moves users: positions and RSRP into the shared radio table, and who serves whom.

The serving cell changes only when the RIC says that a handover is confirmed
(standing for RRC signalling); the radio itself never waits for it.
"""

from __future__ import annotations

import time

from controller.contracts.inventory import Inventory
from topologies.mobility import position_m, speed_mps
from topologies.radio import rsrp_dbm
from topologies.radio_state import RadioState
from topologies.scenario.schema import Scenario


class RadioUpdates:
    """Writes one row per user into `RadioState`; the table's only writer."""

    def __init__(self, scenario: Scenario, inventory: Inventory, state: RadioState) -> None:
        self._scenario = scenario
        self._state = state
        self._cell_index = {c.cell_id: i for i, c in enumerate(inventory.cells)}
        self._serving = {u.ue_id: self._cell_index[u.cell_id] for u in inventory.users}
        access_points = {a.name: a for a in scenario.access_points}
        self._access_points = [access_points[c.cell_id] for c in inventory.cells]

    def attach(self, ue_id: str, cell_id: str) -> None:
        self._serving[ue_id] = self._cell_index[cell_id]

    def update(self, t_s: float) -> None:
        """Write every user's row for scenario time `t_s`."""
        seed = self._scenario.seed
        now_ns = time.time_ns()
        for index, user in enumerate(self._scenario.users):
            here_m = position_m(user.mobility, seed, user.name, t_s)
            self._state.write(
                index,
                position_m=here_m,
                speed_mps=speed_mps(user.mobility),
                serving_index=self._serving[user.name],
                rsrp_dbm=[rsrp_dbm(ap, here_m) for ap in self._access_points],
                updated_at_ns=now_ns,
            )
