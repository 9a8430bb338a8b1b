"""Makes OVSDB and kernel agree with the queues that are wanted.

One transaction, touching Queue rows only: the QoS row and its fixed queues 0-2 are the
emulation's and stay.  Where rates alone change, the kernel's classes get them before
OVSDB is told (see htb_classes.py); where a queue comes or goes, vswitchd makes or removes
its class.  Confirmed means: the rows read back equal, and the kernel's classes equal too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from controller.contracts.queue_tree import QueueRates
from controller.errors import NotConfirmedError, SwitchDatabaseError
from controller.htb_classes import HtbClasses
from controller.ovsdb import SwitchDatabase
from controller.queue_rows import Edit, Tree, edit_of, rates_of, select
from controller.queues import FIXED_QUEUE_IDS, Queues


@dataclass(frozen=True)
class Applied:
    """`rows` changed; kernel and OVSDB had the queues as wanted at `at_ns` (CLOCK_REALTIME)."""

    rows: int
    at_ns: int


class _Read(NamedTuple):
    interface: str
    queue_id: int
    operation: dict[str, Any]


_Rows = dict[str, dict[int, QueueRates]]
"""Interface -> queue id -> rates, as OVSDB has them."""


class PortQueues:
    """The Queue rows of the run's switch; calls are made one after the other.

    Keeps the uuids it last saw, so that a change costs one transaction; the
    transaction itself refuses (`wait`) when somebody else changed a tree meanwhile.
    """

    def __init__(self, database: SwitchDatabase, classes: HtbClasses) -> None:
        self._database = database
        self._classes = classes
        self._lock = asyncio.Lock()
        self._trees: dict[str, Tree] = {}
        self._committed = 0
        """Number of our last configuration, which vswitchd may still be at work on."""

    async def apply(
        self, wanted: Mapping[str, Queues], first: Awaitable[object] | None = None
    ) -> Applied:
        """Make the ports' own queues exactly these, in one transaction; confirmed on return.

        `first` is awaited before OVSDB is told: vswitchd answers OpenFlow in the thread in
        which it then follows.
        Raises `SwitchDatabaseError` (OVSDB unchanged, or vswitchd does not follow) and
        `NotConfirmedError` (something else is read back).
        """
        async with self._lock:
            try:
                return await self._apply(wanted, first)
            except BaseException:
                self._trees.clear()
                raise

    async def changed(
        self, wanted: Mapping[str, Queues], doubted: Collection[str] = ()
    ) -> set[str]:
        """Interfaces whose own queues are not these (somebody changed them, or their tree).

        Costs OVSDB a read and vswitchd nothing. The kernel's classes are compared of those
        that are `doubted`: after a change that failed half-way. Raises `SwitchDatabaseError`.
        """
        async with self._lock:
            found = await self._read_all()
            self._trees = found
            return {
                name
                for name, queues in wanted.items()
                if name not in found
                or _rates_in(found[name]) != dict(queues)
                or (name in doubted and self._own_classes(name) != dict(queues))
            }

    async def _apply(
        self, wanted: Mapping[str, Queues], first: Awaitable[object] | None
    ) -> Applied:
        if not wanted.keys() <= self._trees.keys():
            self._trees.update(await self._read_all())
        missing = wanted.keys() - self._trees.keys()
        if missing:
            names = ", ".join(sorted(missing))
            raise SwitchDatabaseError(f"no QoS row to put queues into on port {names}")
        edits = {name: edit_of(name, self._trees[name], wanted[name]) for name in wanted}
        set_already = self._set_classes(edits, wanted)
        if first is not None:
            await first
        rows = sum(edit.rows for edit in edits.values())
        if set_already and rows:
            # No queue came, so all rows are known and read back in the same transaction.
            seen = await self._commit(edits, self._reads(wanted))
        else:
            if not set_already:
                await self._commit(edits)
                await self._database.until_applied(self._committed)
            reads = self._reads(wanted)
            seen = _seen(reads, await self._database.transact([r.operation for r in reads]))
        applied_ns = time.time_ns()
        await self._confirm(wanted, seen)
        return Applied(rows, applied_ns)

    def _set_classes(self, edits: Mapping[str, Edit], wanted: Mapping[str, Queues]) -> bool:
        """Did the kernel get all of it? Not while vswitchd may still set what was before."""
        if not all(e.changes_rates_only for e in edits.values()):
            return False
        if not self._database.has_applied(self._committed):
            return False
        return all([self._classes.set(name, wanted[name]) for name in edits])

    async def _commit(self, edits: Mapping[str, Edit], reads: Sequence[_Read] = ()) -> _Rows:
        operations = [o for edit in edits.values() for o in edit.operations]
        found, self._committed = await self._database.commit(
            [*operations, *(read.operation for read in reads)]
        )
        results = iter(found)
        for name, edit in edits.items():
            self._trees[name] = edit.after([next(results) for _ in edit.operations])
        return _seen(reads, results)

    async def _confirm(self, wanted: Mapping[str, Queues], seen: _Rows) -> None:
        """By the rows and the kernel's classes; raises `NotConfirmedError`."""
        for interface, queues in wanted.items():
            if (rows := seen.get(interface, {})) != dict(queues):
                raise NotConfirmedError(f"{interface}: wrote queues {queues}, OVSDB has {rows}")
            if (kernel := self._own_classes(interface)) != dict(queues):
                # vswitchd was following somebody else's change when ours came.
                await self._database.until_applied(self._committed)
                kernel = self._own_classes(interface)
            if kernel != dict(queues):
                raise NotConfirmedError(
                    f"{interface}: wrote queues {queues}, the kernel has {kernel}"
                )

    def _own_classes(self, interface: str) -> dict[int, QueueRates]:
        found = self._classes.rates(interface)
        return {i: rates for i, rates in found.items() if i not in FIXED_QUEUE_IDS}

    def _reads(self, interfaces: Iterable[str]) -> list[_Read]:
        """Selects of these ports' own queues, row by row."""
        return [
            _Read(interface, queue_id, select("Queue", ["other_config"], row))
            for interface in interfaces
            for queue_id, row in self._trees[interface].own().items()
        ]

    async def _read_all(self) -> dict[str, Tree]:
        """Every port that has a QoS row."""
        selects = [
            select("Port", ["name", "qos"]),
            select("QoS", ["_uuid", "queues"]),
            select("Queue", ["_uuid", "other_config"]),
        ]
        ports, qos, queues = (r["rows"] for r in await self._database.transact(selects))
        queues_of = {q["_uuid"][1]: {i: u[1] for i, u in q["queues"][1]} for q in qos}
        config_of = {q["_uuid"][1]: dict(q["other_config"][1]) for q in queues}
        return {
            p["name"]: Tree(
                p["qos"][1],
                queues_of[p["qos"][1]],
                {i: config_of[u] for i, u in queues_of[p["qos"][1]].items()},
            )
            for p in ports
            if p["qos"][0] == "uuid"
        }


def _rates_in(tree: Tree) -> dict[int, QueueRates]:
    return {i: rates_of(dict(tree.configs[i])) for i in tree.own()}


def _seen(reads: Iterable[_Read], results: Iterable[dict[str, Any]]) -> _Rows:
    found: _Rows = {}
    for read, result in zip(reads, results, strict=True):
        for row in result["rows"]:
            rates = rates_of(dict(row["other_config"][1]))
            found.setdefault(read.interface, {})[read.queue_id] = rates
    return found
