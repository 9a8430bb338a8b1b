"""Makes OVSDB and kernel agree with the queues that are wanted.

One transaction, touching Queue rows only: the QoS row and its fixed queues 0-2 are the
emulation's and stay.  Confirmed means: the rows read back equal, and vswitchd's own view
of the kernel's classes equals too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.contracts.queue_tree import QueueRates
from controller.errors import NotConfirmedError, SwitchDatabaseError
from controller.ovsdb import SwitchControl, SwitchDatabase
from controller.queue_rows import Tree, differences, edit_of, rates_of, select
from controller.queues import Queues


@dataclass(frozen=True)
class Applied:
    """`rows` changed; the kernel's classes were seen as wanted at `at_ns` (CLOCK_REALTIME)."""

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
        self._trees: dict[str, Tree] = {}

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
            or {i: rates_of(dict(found[name].configs[i])) for i in found[name].own()}
            != dict(queues)
        }

    async def _apply(self, wanted: Mapping[str, Queues]) -> Applied:
        if not wanted.keys() <= self._trees.keys():
            self._trees.update(await self._read_all())
        missing = wanted.keys() - self._trees.keys()
        if missing:
            names = ", ".join(sorted(missing))
            raise SwitchDatabaseError(f"no QoS row to put queues into on port {names}")
        edits = {name: edit_of(name, self._trees[name], wanted[name]) for name in wanted}
        operations = [o for edit in edits.values() if edit.rows for o in edit.operations]
        if operations:
            found, number = await self._database.commit(operations)
            results = iter(found)
            for name, edit in edits.items():
                if edit.rows:
                    self._trees[name] = edit.after([next(results) for _ in edit.operations])
            await self._database.until_applied(number)
        applied_ns = time.time_ns()
        # Not before: the question costs vswitchd's thread one to the kernel per class.
        await self._confirm(wanted)
        return Applied(sum(edit.rows for edit in edits.values()), applied_ns)

    async def _confirm(self, wanted: Mapping[str, Queues]) -> None:
        """By the rows, and by vswitchd's own view of the kernel's classes.

        Raises `NotConfirmedError` when either has others.
        """
        rows, shown = await asyncio.gather(
            self._read_rows(wanted),
            asyncio.gather(*(self._control.command("qos/show", name) for name in wanted)),
        )
        for interface, queues in wanted.items():
            if rows[interface] != dict(queues):
                raise NotConfirmedError(
                    f"{interface}: wrote queues {queues}, OVSDB has {rows[interface]}"
                )
        others = differences(wanted, shown)
        if others:
            raise NotConfirmedError("; ".join(others))

    async def _read_rows(self, interfaces: Iterable[str]) -> dict[str, dict[int, QueueRates]]:
        """Own queues of these ports, selected row by row."""
        wanted = [(i, q, row) for i in interfaces for q, row in self._trees[i].own().items()]
        selects = [select("Queue", ["other_config"], row) for _, _, row in wanted]
        found: dict[str, dict[int, QueueRates]] = {i: {} for i in interfaces}
        results = await self._database.transact(selects) if selects else []
        for (interface, queue_id, _), result in zip(wanted, results, strict=True):
            for row in result["rows"]:
                found[interface][queue_id] = rates_of(dict(row["other_config"][1]))
        return found

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
