"""The other processes of the run: whom a handover is told, and where user twins are read.

Any of them may be gone for a while; what could not be told is counted, what
could not be read is said to be unreachable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from controller.contracts.inventory import Inventory
from controller.contracts.rpc import AsyncConnection, RpcError, RpcUnavailable
from controller.contracts.run_folder import RunFolder
from controller.ric.errors import Malformed, NotFound, Unreachable
from controller.ric.judgement import UserEvidence
from controller.twins.series import Query

log = logging.getLogger(__name__)

NOTICE_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 2.0


def local_controllers(run: RunFolder, inventory: Inventory) -> dict[str, AsyncConnection]:
    """edge -> a connection of its own: reading must not queue before a notice."""
    edges = sorted({cell.edge for cell in inventory.cells})
    return {edge: AsyncConnection(run.local_controller_socket(edge)) for edge in edges}


class HandoverNotices:
    """Tells the emulation and every local controller where a user is attached now."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self._peers = {
            "emulation": AsyncConnection(run.emulation_socket),
            **local_controllers(run, inventory),
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self.unreached: Counter[str] = Counter()

    def announce(self, ue_id: str, cell_id: str) -> None:
        """At once and to all; the confirmed handover does not wait for them."""
        for name, peer in self._peers.items():
            task = asyncio.ensure_future(self._tell(name, peer, ue_id, cell_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, name: str, peer: AsyncConnection, ue_id: str, cell_id: str) -> None:
        try:
            await peer.call("attached", NOTICE_TIMEOUT_S, ue_id=ue_id, cell_id=cell_id)
        except RpcError as error:
            self.unreached[name] += 1
            log.warning("%s was not told that %s is in %s: %s", name, ue_id, cell_id, error)

    async def requests(self, service: str, since_ns: int, until_ns: int) -> list[dict[str, Any]]:
        """What a task service's users asked it, and how it went. Raises `RpcError`."""
        rows = await self._peers["emulation"].call(
            "requests", READ_TIMEOUT_S, service=service, since_ns=since_ns, until_ns=until_ns
        )
        return list(rows)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for peer in self._peers.values():
            peer.close()


class UserTwins:
    """User twins live at the edges; this reads them there."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self._edge_of_cell = {cell.cell_id: cell.edge for cell in inventory.cells}
        self._user_ids = {user.ue_id for user in inventory.users}
        self._edges = local_controllers(run, inventory)

    async def summaries(self) -> tuple[list[dict[str, Any]], list[str]]:
        """All user twins, sorted by id, and the edges that did not answer."""
        names = list(self._edges)
        answers = await asyncio.gather(
            *(self._edges[name].call("twins", READ_TIMEOUT_S) for name in names),
            return_exceptions=True,
        )
        found: dict[str, dict[str, Any]] = {}
        silent: list[str] = []
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, RpcError):
                silent.append(name)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                for twin in answer:
                    # Right after a handover both edges may have one; the newer counts.
                    known = found.get(twin["id"])
                    if known is None or twin["version"] > known["version"]:
                        found[twin["id"]] = twin
        return [found[ue_id] for ue_id in sorted(found)], silent

    async def changed(self, since_ns: int) -> dict[str, dict[str, Any]]:
        """ue_id -> document of the twins that changed since; a silent edge's are missing."""
        answers = await asyncio.gather(
            *(e.call("changed", READ_TIMEOUT_S, since_ns=since_ns) for e in self._edges.values()),
            return_exceptions=True,
        )
        found: dict[str, dict[str, Any]] = {}
        for answer in answers:
            if isinstance(answer, RpcError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            for twin in answer:
                known = found.get(twin["id"])
                if known is None or twin["version"] > known["version"]:
                    found[twin["id"]] = twin
        return found

    async def twin(self, ue_id: str, attachments: Mapping[str, str]) -> dict[str, Any]:
        document = await self._ask("twin", ue_id, attachments)
        return dict(document)

    async def history(
        self, ue_id: str, last: int, attachments: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """The newest reports merged into the twin, oldest first."""
        return list(await self._ask("history", ue_id, attachments, last=last))

    async def series(
        self, ue_id: str, query: Query, attachments: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """What the edge makes of its history; `NotFound` for what was never recorded."""
        found = await self._ask("series", ue_id, attachments, query=asdict(query))
        if not found["recorded"]:
            known = ", ".join(found["known"]) or "none yet"
            raise NotFound(f"no history of {query.attribute!r} of {ue_id}", f"attributes: {known}")
        return list(found["points"])

    async def rows(
        self, ue_id: str, since_ns: int, attachments: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Of the table of users' twins; none of a user without a twin."""
        try:
            return list(await self._ask("rows", ue_id, attachments, since_ns=since_ns))
        except NotFound:
            return []

    async def _ask(
        self, op: str, ue_id: str, attachments: Mapping[str, str], **arguments: Any
    ) -> Any:
        if ue_id not in self._user_ids:
            raise NotFound(f"unknown user {ue_id!r}", "see /api/v1/ues")
        serving = self._edge_of_cell[attachments[ue_id]]
        missing = ""
        # Right after a handover the twin is on its way, and still where it was.
        for edge in (serving, *sorted(self._edges.keys() - {serving})):
            try:
                return await self._edges[edge].call(op, READ_TIMEOUT_S, ue_id=ue_id, **arguments)
            except RpcUnavailable as error:
                if edge == serving:
                    raise Unreachable(
                        f"the local controller at {edge} does not answer", str(error)
                    ) from None
            except RpcError as error:
                if "LookupError" not in str(error):
                    raise Malformed(str(error)) from None
                missing = missing or str(error)
        raise NotFound(f"no twin of {ue_id} yet", missing)

    async def evidence(
        self, ue_id: str, confirmed_ns: int, attachments: Mapping[str, str]
    ) -> UserEvidence | None:
        """What the user reported of windows that began after `confirmed_ns`."""
        try:
            reports = await self.history(ue_id, 8, attachments)
        except (NotFound, Unreachable, Malformed):
            return None
        after = [r for r in reports if r["window"] * r["period_ms"] * 1_000_000 >= confirmed_ns]
        if not after:
            return None
        flows = [flow for flow in after[-1]["flows"] if not flow["up"]]
        return UserEvidence(
            delivered_bytes=None,
            reported_cell_id=after[-1]["cell_id"],
            demand_kbps=sum(flow["demand_kbps"] for flow in flows),
            goodput_kbps=sum(flow["goodput_kbps"] for flow in flows),
        )

    def close(self) -> None:
        for edge in self._edges.values():
            edge.close()
