"""Queues: which a port with a rate has, at what rates, and making OVSDB and kernel agree.

The intent is pure (`queue_rates`); `PortQueues` applies it in one transaction,
touching Queue rows only: the QoS row and its fixed queues 0-2 are the
emulation's and stay.  Confirmed means: vswitchd applied the configuration, the
rows read back equal, and vswitchd's own view of the kernel's classes equals too.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.contracts.inventory import Cell, Port, Reservation
from controller.contracts.queue_tree import (
    LEAST_RATE_KBPS,
    PRIORITY,
    QueueRates,
    fixed_queues,
    queue_row,
)
from controller.contracts.slices import TrafficClass, dscp_of, queue_of
from controller.errors import NotConfirmedError, SwitchDatabaseError
from controller.network_state import NetworkState, PairKey
from controller.network_view import Network
from controller.ovsdb import SwitchControl, SwitchDatabase

Queues = Mapping[int, QueueRates]
QueuesByInterface = dict[str, Queues]

FIXED_QUEUE_IDS = frozenset(fixed_queues(1, 1.0))

# -- intent --------------------------------------------------------------------


def queue_rates(network: Network, state: NetworkState) -> QueuesByInterface:
    """Interface of each port with a rate -> its own-queue pairs. Empty without slicing."""
    if not network.inventory.slicing:
        return {}
    return {
        port.interface: port_queues(network, state, port)
        for ports in network.ports.values()
        for port in ports
        if port.rate_kbps is not None
    }


def port_queues(network: Network, state: NetworkState, port: Port) -> Queues:
    """A cell's downlink by its reservations, any other link in equal shares."""
    keys = own_queue_pairs(network)
    cell = next(
        (c for c in network.cells_of_switch[port.switch] if c.down_port == port.port_no), None
    )
    link_kbps = port.rate_kbps or 0
    if cell is not None:
        reservations = state.reservations.get(cell.cell_id, {})
        return {
            queue_of(dscp_of(*key)): downlink_rates(cell, key, reservations.get(key))
            for key in keys
        }
    share_kbps = int(link_kbps * network.inventory.reservable_ratio / max(1, len(keys)))
    return {queue_of(dscp_of(*key)): _share(key, share_kbps, link_kbps) for key in keys}


def own_queue_pairs(network: Network) -> list[PairKey]:
    """Live pairs with a queue of their own: elastic and real-time ones."""
    return [k for k in network.pairs if queue_of(dscp_of(*k)) not in FIXED_QUEUE_IDS]


def downlink_rates(cell: Cell, key: PairKey, reservation: Reservation | None) -> QueueRates:
    """Reserved: guarantee and ceiling (real-time: equal, see `network_state.shaped`).

    Not reserved: the least guarantee, no ceiling but the link, and no privilege
    of class, so that without a reservation nobody is protected or cut off.
    """
    if reservation is None:
        return QueueRates(LEAST_RATE_KBPS, cell.down_kbps, max(PRIORITY.values()))
    least = max(reservation.min_kbps, LEAST_RATE_KBPS)
    return QueueRates(least, max(reservation.max_kbps, least), PRIORITY[key[1]])


def _share(key: PairKey, share_kbps: int, link_kbps: int) -> QueueRates:
    least = max(share_kbps, LEAST_RATE_KBPS)
    shaped = key[1] is TrafficClass.REAL_TIME
    return QueueRates(least, least if shaped else link_kbps, PRIORITY[key[1]])


# -- OVSDB ---------------------------------------------------------------------


@dataclass(frozen=True)
class Applied:
    """`rows` changed; vswitchd had followed at `at_ns` (CLOCK_REALTIME)."""

    rows: int
    at_ns: int


class PortQueues:
    """The Queue rows of the run's switch; calls are made one after the other."""

    def __init__(self, database: SwitchDatabase, control: SwitchControl) -> None:
        self._database = database
        self._control = control
        self._lock = asyncio.Lock()

    async def apply(self, wanted: Mapping[str, Queues]) -> Applied:
        """Make the ports' own queues exactly these, in one transaction; confirmed on return.

        Raises `SwitchDatabaseError` (nothing changed,
        or vswitchd does not follow) and `NotConfirmedError` (it shows something else).
        """
        async with self._lock:
            trees = await self._read(list(wanted))
            operations: list[dict[str, Any]] = []
            for interface, queues in wanted.items():
                operations += _operations(interface, trees[interface], queues)
            if operations:
                await self._database.commit(operations)
            applied_ns = time.time_ns()
            await self._confirm(wanted)
        rows = len([o for o in operations if o["op"] in ("insert", "update", "delete")])
        return Applied(rows, applied_ns)

    async def read(self, interfaces: list[str]) -> QueuesByInterface:
        """Own queues as OVSDB has them."""
        async with self._lock:
            trees = await self._read(interfaces)
        return {i: _own(tree) for i, tree in trees.items()}

    async def _confirm(self, wanted: Mapping[str, Queues]) -> None:
        trees = await self._read(list(wanted))
        for interface, queues in wanted.items():
            rows = _own(trees[interface])
            if rows != dict(queues):
                raise NotConfirmedError(f"{interface}: wrote queues {queues}, OVSDB has {rows}")
        shown = await asyncio.gather(
            *(self._control.command("qos/show", interface) for interface in wanted)
        )
        for (interface, queues), text in zip(wanted.items(), shown, strict=True):
            kernel = {i: r for i, r in parse_qos_show(text).items() if i not in FIXED_QUEUE_IDS}
            if kernel != dict(queues):
                raise NotConfirmedError(
                    f"{interface}: wrote queues {queues}, the kernel has {kernel}"
                )

    async def _read(self, interfaces: list[str]) -> dict[str, _Tree]:
        """Three selects in one transaction: a port's queue rows by id."""
        selects = [
            {"op": "select", "table": "Port", "where": [], "columns": ["name", "qos"]},
            {"op": "select", "table": "QoS", "where": [], "columns": ["_uuid", "queues"]},
            {"op": "select", "table": "Queue", "where": [], "columns": ["_uuid", "other_config"]},
        ]
        ports, qos, queues = (r["rows"] for r in await self._database.transact(selects))
        qos_of = {p["name"]: p["qos"][1] for p in ports if p["qos"][0] == "uuid"}
        queues_of = {q["_uuid"][1]: {i: u[1] for i, u in q["queues"][1]} for q in qos}
        config_of = {q["_uuid"][1]: dict(q["other_config"][1]) for q in queues}
        trees = {}
        for name in interfaces:
            if qos_of.get(name) not in queues_of:
                raise SwitchDatabaseError(f"port {name} has no QoS row to put queues into")
            rows = {i: (u, config_of[u]) for i, u in queues_of[qos_of[name]].items()}
            trees[name] = _Tree(qos_of[name], rows)
        return trees


class _Tree:
    """A port's QoS row: its uuid, and queue id -> (uuid, other_config)."""

    def __init__(self, qos: str, rows: Mapping[int, tuple[str, dict[str, str]]]) -> None:
        self.qos = qos
        self.rows = rows


def _own(tree: _Tree) -> dict[int, QueueRates]:
    return {i: _rates(config) for i, (_, config) in tree.rows.items() if i not in FIXED_QUEUE_IDS}


def _rates(config: Mapping[str, str]) -> QueueRates:
    min_rate = config.get("min-rate", "0")
    return QueueRates(
        int(min_rate) // 1000,
        # qos/show leaves a ceiling out that equals the guaranteed rate.
        int(config.get("max-rate", min_rate)) // 1000,
        int(config.get("priority", 0)),
    )


def _operations(interface: str, tree: _Tree, wanted: Queues) -> list[dict[str, Any]]:
    operations: list[dict[str, Any]] = []
    own = {i: row for i, row in tree.rows.items() if i not in FIXED_QUEUE_IDS}
    for queue_id, rates in wanted.items():
        columns = {"other_config": ["map", [[k, v] for k, v in queue_row(rates).items()]]}
        if queue_id not in own:
            name = f"q_{re.sub('[^a-zA-Z0-9]', '_', interface)}_{queue_id}"
            operations.append({"op": "insert", "table": "Queue", "row": columns, "uuid-name": name})
            operations.append(_link(tree, "insert", queue_id, ["named-uuid", name]))
        elif own[queue_id][1] != queue_row(rates):
            where = [["_uuid", "==", ["uuid", own[queue_id][0]]]]
            operations.append({"op": "update", "table": "Queue", "where": where, "row": columns})
    for queue_id, (row, _) in own.items():
        if queue_id not in wanted:
            # `delete` by key; the row itself goes too, since no QoS row holds it.
            operations.append(_link(tree, "delete", queue_id, ["uuid", row]))
            where = [["_uuid", "==", ["uuid", row]]]
            operations.append({"op": "delete", "table": "Queue", "where": where})
    return operations


def _link(tree: _Tree, mutator: str, queue_id: int, row: list[str]) -> dict[str, Any]:
    value: list[Any] = ["map", [[queue_id, row]]]
    return {
        "op": "mutate",
        "table": "QoS",
        "where": [["_uuid", "==", ["uuid", tree.qos]]],
        "mutations": [["queues", mutator, value]],
    }


def parse_qos_show(text: str) -> dict[int, QueueRates]:
    """Queue id -> rates in the answer of `qos/show` (\"Default\" is queue 0)."""
    found: dict[int, QueueRates] = {}
    for block in re.split(r"\n(?=Queue \d+:|Default:)", text)[1:]:
        title, _, rest = block.partition(":")
        queue_id = 0 if title == "Default" else int(title.split()[1])
        found[queue_id] = _rates(dict(re.findall(r"^\s*([a-z-]+): (\S+)$", rest, re.M)))
    return found
