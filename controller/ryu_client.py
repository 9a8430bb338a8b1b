"""The RIC's side of `ryu.sock`: typed calls to the Ryu process.

Purposes have connections of their own, because answers on one come in order and
a reservation must not wait behind a large read of counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.contracts import rpc
from controller.contracts.run_folder import RunFolder
from controller.reconcile import Change, Strangers, installed_program
from controller.switch_program import SwitchProgram

_STATUS_TIMEOUT_S = 1.0
_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 60.0
_ITEMS_PER_S = 1000
"""A very slow machine's pace, for the timeout of a large change."""
PART_ITEMS = 1000
"""Of a change in one line: decoding a longer one would keep Ryu's only thread from echoes."""


@dataclass(frozen=True)
class RyuStatus:
    """`boot` changes when Ryu restarts; a switch's number when it connects anew."""

    boot: str
    switches: Mapping[str, int]
    refused: Mapping[str, int] = field(default_factory=dict)
    """Connections that Ryu refused, by why."""
    last_refusal: str = ""
    dead_ports: frozenset[tuple[str, int]] = frozenset()
    """(switch, port) without carrier, or whose wire is silent to BFD."""


@dataclass(frozen=True)
class Answer:
    """What one switch said to a change."""

    confirmed: bool
    detail: str
    at_ns: int


class RyuClient:
    """Raises `rpc.RpcError` (and `RpcUnavailable`) from every call. `dpids`: of the switches."""

    def __init__(self, dpids: Mapping[str, int], run: RunFolder) -> None:
        self._dpids = dict(dpids)
        self._names = {str(dpid): name for name, dpid in dpids.items()}
        self._retired: dict[str, Any] = {}
        self._connections = {
            purpose: rpc.AsyncConnection(run.ryu_socket)
            for purpose in ("reserve", "flows", "slices", "counters", "status")
        }

    async def status(self) -> RyuStatus:
        answer = await self._connections["status"].call("status", timeout_s=_STATUS_TIMEOUT_S)
        switches = {self._names[d]: n for d, n in answer["switches"].items() if d in self._names}
        dead = {
            (self._names[dpid], port_no)
            for dpid, ports in answer["dead_ports"].items()
            if dpid in self._names
            for port_no in ports
        }
        return RyuStatus(
            answer["boot"], switches, answer["refused"], answer["last_refusal"], frozenset(dead)
        )

    async def read(self, switch: str) -> tuple[SwitchProgram, Strangers]:
        """What is installed: ours, and what is not."""
        document = await self._connections["flows"].call(
            "read", _READ_TIMEOUT_S, dpid=self._dpids[switch]
        )
        return installed_program(switch, document)

    async def change(
        self, changes: Mapping[str, Change], generation: int, purpose: str = "flows"
    ) -> dict[str, Answer]:
        """By switch name; all switches at once. Empty changes must not be sent."""
        by_dpid, items = {}, 0
        for name, change in changes.items():
            document = change.as_json()
            items += sum(map(len, document.values()))
            by_dpid[str(self._dpids[name])] = await self._staged(
                self._dpids[name], document, generation, purpose
            )
        answers = await self._connections[purpose].call(
            "change", _TIMEOUT_S + items / _ITEMS_PER_S, generation=generation, changes=by_dpid
        )
        found = {}
        for dpid, answer in answers.items():
            self._retired[dpid] = answer.get("retired", self._retired.get(dpid, {}))
            found[self._names[dpid]] = Answer(
                answer["confirmed"], answer["detail"], answer.get("at_ns", 0)
            )
        return found

    async def _staged(
        self, dpid: int, document: dict[str, Any], generation: int, purpose: str
    ) -> dict[str, Any]:
        """What is left of the change to send, once all whole parts of it were."""
        left = dict(document)
        for section in document:
            while len(left[section]) > PART_ITEMS:
                part, left[section] = left[section][:PART_ITEMS], left[section][PART_ITEMS:]
                await self._connections[purpose].call(
                    "stage", generation=generation, dpid=dpid, section=section, items=part
                )
        return left

    async def counters(self, cookies: Mapping[str, list[int]]) -> dict[str, Any]:
        """By switch name; see ryu_app.py."""
        by_dpid = {str(self._dpids[name]): wanted for name, wanted in cookies.items()}
        answers = await self._connections["counters"].call("counters", cookies=by_dpid)
        return {self._names[dpid]: answer for dpid, answer in answers.items()}

    async def restore_retired(self) -> None:
        """Tell a fresh Ryu the earlier lives of meters."""
        if self._retired:
            await self._connections["flows"].call("restore", retired=self._retired)

    def close(self) -> None:
        """Connections of a Ryu that is gone; the next call makes new ones."""
        for connection in self._connections.values():
            connection.close()
