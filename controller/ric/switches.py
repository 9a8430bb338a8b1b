"""The real enforcement behind the RIC's protocol: `Enforcer` and its counters, translated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from typing import Any

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.run_folder import RunFolder
from controller.counters import Counters
from controller.enforcement import EnforcementResult, Enforcer
from controller.ric.measurement import ClassCount, ClassKey, CounterSample
from controller.switch_program import Direction


def sample_of(counters: Counters, inventory: Inventory) -> CounterSample:
    """Downlink meters and the queues behind them, by cell; users where they have meters. Pure.

    A class whose queue is shared (control, best-effort) has no delivered bytes of its own.
    """
    queue_bytes = {
        (queue.switch, queue.port_no, queue.slice_id, queue.traffic_class): queue.tx_bytes
        for queue in counters.queues
        if queue.slice_id is not None
    }
    cells = {cell.cell_id: cell for cell in inventory.cells}
    classes: dict[ClassKey, ClassCount] = {}
    users: dict[tuple[str, str], int] = {}
    for meter in counters.meters:
        if meter.direction is not Direction.DOWN or meter.cell_id not in cells:
            continue
        if meter.ue_id is not None:
            key = (meter.ue_id, meter.cell_id)
            users[key] = users.get(key, 0) + meter.bytes - meter.drop_bytes
        elif meter.traffic_class is not None:
            cell = cells[meter.cell_id]
            queue = (cell.switch, cell.down_port, meter.slice_id, meter.traffic_class)
            classes[meter.cell_id, meter.slice_id, meter.traffic_class] = ClassCount(
                arrived_bytes=meter.bytes, delivered_bytes=queue_bytes.get(queue)
            )
    return CounterSample(counters.at_ns, classes, users)


class SwitchEnforcement:
    """`Enforcing` over Ryu and OVSDB."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self._inventory = inventory
        self._enforcer = Enforcer(inventory, run)
        self._connected: list[str] = []

    def attachments(self) -> Mapping[str, str]:
        state = self._enforcer.state
        return {ue_id: state.serving_cell(ue_id) for ue_id in state.attachments}

    def reservations(self, cell_id: str) -> Sequence[Reservation]:
        return list(self._enforcer.state.reservations.get(cell_id, {}).values())

    def connected_switches(self) -> Sequence[str]:
        """As of the last reading of counters (at first: of the installation)."""
        return self._connected

    async def start(self) -> None:
        await self._enforcer.start()

    async def install(self) -> Sequence[Confirmation]:
        confirmations = await self._enforcer.install()
        names = {switch.name for switch in self._inventory.switches}
        self._connected = sorted(
            {c.switch for c in confirmations if c.confirmed and c.switch in names}
        )
        return confirmations

    async def reserve(
        self, cell_id: str, reservations: Sequence[Reservation], dry_run: bool = False
    ) -> EnforcementResult:
        return await self._enforcer.reserve(cell_id, reservations, dry_run)

    async def handover(
        self, ue_id: str, cell_id: str, dry_run: bool = False
    ) -> EnforcementResult:
        return await self._enforcer.handover(ue_id, cell_id, dry_run)

    async def sample(self) -> CounterSample:
        """Raises `rpc.RpcError` when Ryu is away."""
        counters = await self._enforcer.counters()
        unread = counters.unread_switches
        self._connected = sorted(
            switch.name for switch in self._inventory.switches if switch.name not in unread
        )
        return sample_of(counters, self._inventory)

    async def switch_counters(self) -> dict[str, Any]:
        return (await self._enforcer.counters()).as_json()

    async def switch_counters(self) -> Mapping[str, Any]:
        """`Counters.as_json`; waits until vswitchd has credited its flows."""
        return (await self._enforcer.counters(settle=True)).as_json()

    async def stop(self) -> None:
        await self._enforcer.stop()
