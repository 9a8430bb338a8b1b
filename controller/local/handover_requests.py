"""From A3 events to requests at the RIC: one outstanding per user, slower after a refusal.

The local controller of the serving cell's edge decides nothing itself: the RIC
guards and enforces, then tells every local controller `attached`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from controller.contracts.decisions import Action, DecisionRecord, DecisionRequest, Verdict
from controller.contracts.inventory import HandoverConfig
from controller.contracts.rpc import RpcError
from controller.local.a3 import A3State, Measurement, observe

XAPP = "a3-handover"
FIRST_BACKOFF_MS = 1000
MAX_BACKOFF_MS = 16_000

Ask = Callable[[DecisionRequest], Awaitable[DecisionRecord]]


def backoff_ms(refusals: int) -> int:
    """Pause after the nth refusal in a row (from 1), or after a success (0)."""
    return min(FIRST_BACKOFF_MS << max(0, min(refusals, 10) - 1), MAX_BACKOFF_MS)


def request_of(ue_id: str, target: str, version: int, completed_at_ns: int) -> DecisionRequest:
    return DecisionRequest(
        trace_id=uuid4().hex,
        xapp=XAPP,
        action=Action.HANDOVER,
        target={"ue_id": ue_id},
        parameters={"cell_id": target},
        based_on=[f"user:{ue_id}@{version}"],
        hops_ns={"twin_completed": completed_at_ns},
    )


@dataclass(slots=True)
class _UserRequests:
    a3: A3State | None = None
    is_outstanding: bool = False
    refusals: int = 0
    not_before_ns: int = 0


class HandoverRequests:
    """A3 state and requests of the users of one edge.  `ask` raises `RpcError` on failure.

    `own`: configurations of users that have one of their own, by `ue_id`.
    """

    def __init__(
        self, config: HandoverConfig, ask: Ask, own: Mapping[str, HandoverConfig] | None = None
    ) -> None:
        self._config = config
        self._own = dict(own or {})
        self._ask = ask
        self._users: dict[str, _UserRequests] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcomes: Counter[str] = Counter()

    def observe(self, ue_id: str, measured: Measurement, version: int, arrived_at_ns: int) -> None:
        """One report's measurement; starts a request when A3 says so and none is pending."""
        user = self._users.get(ue_id)
        if user is None:
            user = self._users[ue_id] = _UserRequests()
        user.a3, target = observe(user.a3, measured, self._own.get(ue_id, self._config))
        if target is None or user.is_outstanding or arrived_at_ns < user.not_before_ns:
            return
        user.is_outstanding = True
        self.outcomes["requested"] += 1
        request = request_of(ue_id, target, version, arrived_at_ns)
        task = asyncio.get_running_loop().create_task(self._pursue(user, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, ue_id: str) -> None:
        self._users.pop(ue_id, None)

    async def _pursue(self, user: _UserRequests, request: DecisionRequest) -> None:
        started_s = asyncio.get_running_loop().time()
        try:
            record = await self._ask(request)
            outcome, reason = record.verdict.value, record.reason
        except RpcError as error:
            outcome, reason = "failed", str(error)
        self.outcomes[outcome] += 1
        user.refusals = 0 if outcome == Verdict.APPLIED else user.refusals + 1
        elapsed_ns = round((asyncio.get_running_loop().time() - started_s) * 1e9)
        ended_at_ns = request.hops_ns["twin_completed"] + elapsed_ns
        user.not_before_ns = ended_at_ns + backoff_ms(user.refusals) * 1_000_000
        user.is_outstanding = False
        if outcome != Verdict.APPLIED:
            ue_id, cell_id = request.target["ue_id"], request.parameters["cell_id"]
            print(f"handover of {ue_id} to {cell_id}: {outcome}: {reason}", file=sys.stderr)
