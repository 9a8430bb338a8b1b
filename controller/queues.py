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
from collections import Counter
from collections.abc import Iterable, Mapping
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
    """A cell's downlink by its reservations, any other link in shares by promise."""
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
            if network.covers(cell.cell_id, key[0])
        }
    shares = link_shares(network, link_kbps)
    return {queue_of(dscp_of(*key)): _share(key, shares[key], link_kbps) for key in keys}


def link_shares(network: Network, link_kbps: int) -> dict[PairKey, int]:
    """What each pair is guaranteed on a link without reservations, kbit/s.

    In proportion to what the slices' SLAs guarantee, so that a slice that comes takes
    from the others only in the measure of its own promise; a slice's pairs share evenly.
    """
    keys = own_queue_pairs(network)
    of_slice = Counter(slice_id for slice_id, _ in keys)
    promised = {i: network.slices[i].sla.guaranteed_mbps for i in of_slice}
    unit_kbps = link_kbps * network.inventory.reservable_ratio / (sum(promised.values()) or 1)
    return {key: int(unit_kbps * promised[key[0]] / of_slice[key[0]]) for key in keys}


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
    # A ceiling above the link (no meter, in effect) is the link for the queue.
    ceiling_kbps = min(max(reservation.max_kbps, least), cell.down_kbps)
    return QueueRates(least, ceiling_kbps, PRIORITY[key[1]])


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
    """The Queue rows of the run's switch; calls are made one after the other.

    Keeps the uuids it last saw, so that a change costs one transaction; the
    transaction itself refuses (`wait`) when somebody else changed a tree meanwhile.
    """

    def __init__(self, database: SwitchDatabase, control: SwitchControl) -> None:
        self._database = database
        self._control = control
        self._lock = asyncio.Lock()
        self._trees: dict[str, _Tree] = {}

    async def apply(self, wanted: Mapping[str, Queues]) -> Applied:
        """Make the ports' own queues exactly these, in one transaction; confirmed on return.

        Raises `SwitchDatabaseError` (nothing changed, or vswitchd does not follow) and
        `NotConfirmedError` (it shows something else).
        """
        async with self._lock:
            try:
                return await self._apply(wanted)
            except BaseException:
                self._trees.clear()
                raise

    async def changed(self, wanted: Mapping[str, Queues]) -> set[str]:
        """Interfaces whose own queues are not these (somebody changed them, or their tree).

        Costs OVSDB a read and vswitchd nothing. Raises `SwitchDatabaseError`.
        """
        async with self._lock:
            found = await self._read_all()
            self._trees = found
        return {
            name
            for name, queues in wanted.items()
            if name not in found
            or {i: _rates(dict(found[name].configs[i])) for i in found[name].own()} != dict(queues)
        }

    async def _apply(self, wanted: Mapping[str, Queues]) -> Applied:
        if not wanted.keys() <= self._trees.keys():
            self._trees.update(await self._read_all())
        missing = wanted.keys() - self._trees.keys()
        if missing:
            names = ", ".join(sorted(missing))
            raise SwitchDatabaseError(f"no QoS row to put queues into on port {names}")
        edits = {name: _edit(name, self._trees[name], wanted[name]) for name in wanted}
        operations = [o for edit in edits.values() if edit.rows for o in edit.operations]
        if operations:
            results = iter(await self._database.commit(operations))
            for name, edit in edits.items():
                if edit.rows:
                    self._trees[name] = edit.after([next(results) for _ in edit.operations])
        applied_ns = time.time_ns()
        await self._confirm(wanted)
        return Applied(sum(edit.rows for edit in edits.values()), applied_ns)

    async def _confirm(self, wanted: Mapping[str, Queues]) -> None:
        """By the rows, and by vswitchd's own view of the kernel's classes."""
        rows, shown = await asyncio.gather(
            self._read_rows(wanted),
            asyncio.gather(*(self._control.command("qos/show", name) for name in wanted)),
        )
        for (interface, queues), text in zip(wanted.items(), shown, strict=True):
            if rows[interface] != dict(queues):
                raise NotConfirmedError(
                    f"{interface}: wrote queues {queues}, OVSDB has {rows[interface]}"
                )
            kernel = {i: r for i, r in parse_qos_show(text).items() if i not in FIXED_QUEUE_IDS}
            if kernel != dict(queues):
                raise NotConfirmedError(
                    f"{interface}: wrote queues {queues}, the kernel has {kernel}"
                )

    async def _read_rows(self, interfaces: Iterable[str]) -> dict[str, dict[int, QueueRates]]:
        """Own queues of these ports, selected row by row."""
        wanted = [(i, q, row) for i in interfaces for q, row in self._trees[i].own().items()]
        selects = [_select("Queue", ["other_config"], row) for _, _, row in wanted]
        found: dict[str, dict[int, QueueRates]] = {i: {} for i in interfaces}
        results = await self._database.transact(selects) if selects else []
        for (interface, queue_id, _), result in zip(wanted, results, strict=True):
            for row in result["rows"]:
                found[interface][queue_id] = _rates(dict(row["other_config"][1]))
        return found

    async def _read_all(self) -> dict[str, _Tree]:
        """Every port that has a QoS row."""
        selects = [
            _select("Port", ["name", "qos"]),
            _select("QoS", ["_uuid", "queues"]),
            _select("Queue", ["_uuid", "other_config"]),
        ]
        ports, qos, queues = (r["rows"] for r in await self._database.transact(selects))
        queues_of = {q["_uuid"][1]: {i: u[1] for i, u in q["queues"][1]} for q in qos}
        config_of = {q["_uuid"][1]: dict(q["other_config"][1]) for q in queues}
        return {
            p["name"]: _Tree(
                p["qos"][1],
                queues_of[p["qos"][1]],
                {i: config_of[u] for i, u in queues_of[p["qos"][1]].items()},
            )
            for p in ports
            if p["qos"][0] == "uuid"
        }


@dataclass(frozen=True)
class _Tree:
    """A port's QoS row: its uuid; queue id -> uuid of its row, and its other_config."""

    qos: str
    rows: Mapping[int, str]
    configs: Mapping[int, Mapping[str, str]]

    def own(self) -> dict[int, str]:
        return {i: row for i, row in self.rows.items() if i not in FIXED_QUEUE_IDS}


@dataclass(frozen=True)
class _Edit:
    """Operations that change a tree, `rows` of them on Queue rows; `inserted`: op -> queue."""

    tree: _Tree
    wanted: Mapping[int, dict[str, str]]
    operations: list[dict[str, Any]]
    inserted: Mapping[int, int]
    rows: int

    def after(self, results: list[dict[str, Any]]) -> _Tree:
        """The tree once the operations were committed with these results."""
        fixed = {i: r for i, r in self.tree.rows.items() if i in FIXED_QUEUE_IDS}
        kept = {i: r for i, r in self.tree.own().items() if i in self.wanted}
        new = {i: results[n]["uuid"][1] for n, i in self.inserted.items()}
        configs = {i: self.tree.configs[i] for i in fixed} | dict(self.wanted)
        return _Tree(self.tree.qos, {**fixed, **kept, **new}, configs)


def _edit(interface: str, tree: _Tree, queues: Queues) -> _Edit:
    wanted = {i: queue_row(rates) for i, rates in queues.items()}
    own = tree.own()
    operations = [_unless_changed(tree)]
    inserted: dict[int, int] = {}
    rows = 0
    for queue_id, config in wanted.items():
        columns = {"other_config": ["map", [[k, v] for k, v in config.items()]]}
        if queue_id not in own:
            name = f"q_{re.sub('[^a-zA-Z0-9]', '_', interface)}_{queue_id}"
            inserted[len(operations)] = queue_id
            insert = {"op": "insert", "table": "Queue", "row": columns, "uuid-name": name}
            operations += [insert, _link(tree, "insert", queue_id, ["named-uuid", name])]
            rows += 1
        elif tree.configs[queue_id] != config:
            where = _where(own[queue_id])
            operations.append({"op": "update", "table": "Queue", "where": where, "row": columns})
            rows += 1
    for queue_id in own.keys() - wanted.keys():
        operations.append(_link(tree, "delete", queue_id, ["uuid", own[queue_id]]))
        operations.append({"op": "delete", "table": "Queue", "where": _where(own[queue_id])})
        rows += 1
    return _Edit(tree, wanted, operations, inserted, rows)


def _unless_changed(tree: _Tree) -> dict[str, Any]:
    held = [[i, ["uuid", row]] for i, row in tree.rows.items()]
    return {
        "op": "wait",
        "table": "QoS",
        "timeout": 0,
        "where": _where(tree.qos),
        "columns": ["queues"],
        "until": "==",
        "rows": [{"queues": ["map", held]}],
    }


def _select(table: str, columns: list[str], row: str | None = None) -> dict[str, Any]:
    where = [] if row is None else _where(row)
    return {"op": "select", "table": table, "where": where, "columns": columns}


def _where(row: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", row]]]


def _link(tree: _Tree, mutator: str, queue_id: int, row: list[str]) -> dict[str, Any]:
    return {
        "op": "mutate",
        "table": "QoS",
        "where": _where(tree.qos),
        "mutations": [["queues", mutator, ["map", [[queue_id, row]]]]],
    }


def _rates(config: Mapping[str, str]) -> QueueRates:
    return QueueRates(
        int(config.get("min-rate", 0)) // 1000,
        int(config.get("max-rate", 0)) // 1000,
        int(config.get("priority", 0)),
    )


def parse_qos_show(text: str) -> dict[int, QueueRates]:
    """Queue id -> rates in the answer of `qos/show` (\"Default\" is queue 0)."""
    found: dict[int, QueueRates] = {}
    for block in re.split(r"\n(?=Queue \d+:|Default:)", text)[1:]:
        title, _, rest = block.partition(":")
        queue_id = 0 if title == "Default" else int(title.split()[1])
        config = dict(re.findall(r"^\s*([a-z-]+): (\S+)$", rest, re.M))
        # A ceiling equal to the guarantee is not shown.
        found[queue_id] = _rates({"max-rate": config.get("min-rate", "0"), **config})
    return found
