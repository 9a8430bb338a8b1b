"""All switches of a run, kept at one intended state: send differences, undo, catch up.

Holds the current `NetworkState` and the locks under which it changes.  A switch
whose answer was not what was sent is in doubt; the watch reconciles it, as it
does every switch after a reconnect or a restart of Ryu.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.contracts import rpc
from controller.contracts.decisions import Confirmation
from controller.contracts.patience import stretched_s
from controller.errors import EnforcementError
from controller.forwarding import serving_cells
from controller.network_state import Attachment, NetworkState
from controller.network_view import Network
from controller.reconcile import Change, difference
from controller.rules import compile_switch
from controller.ryu_client import Answer, RyuClient, RyuStatus
from controller.switch_program import Meter, MeterUse

CONNECT_TIMEOUT_S = stretched_s(15.0)
_CONNECT_POLL_S = 0.05


@dataclass(frozen=True)
class Reconciled:
    """`change`: what the switch lacked."""

    switch: str
    confirmed: bool
    detail: str
    change: Change

    @property
    def confirmation(self) -> Confirmation:
        return Confirmation(switch=self.switch, confirmed=self.confirmed, detail=self.detail)


class Switches:
    """`state` is what the switches carry, as far as they confirmed it."""

    def __init__(self, network: Network, state: NetworkState, ryu: RyuClient) -> None:
        self.network = network
        self.state = state
        self.connected: tuple[str, ...] = ()
        self.meter_uses: dict[str, dict[int, MeterUse]] = {n: {} for n in network.switches}
        """Every meter that ever was on a switch: its counters stay in the totals."""
        self._ryu = ryu
        self._locks = {name: asyncio.Lock() for name in network.switches}
        self._generations = itertools.count(1)
        self._in_step: dict[str, tuple[str, int]] = {}
        """Switch -> (boot of Ryu, connection) for which it was last reconciled."""
        self._boot = ""
        self._cookies: dict[str, list[int]] = {}
        self.ryu_status: RyuStatus | None = None
        """As of the last question; None while Ryu does not answer."""
        self.debug_flows: dict[str, int] = {}
        """Switch -> flows in it that somebody added for debugging, at the last reading."""

    # -- changing ---------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def holding(self, switches: Iterable[str]) -> AsyncIterator[None]:
        """Alone on these switches; in one order, so that two never wait for each other."""
        async with contextlib.AsyncExitStack() as stack:
            for name in sorted(set(switches)):
                await stack.enter_async_context(self._locks[name])
            yield

    async def send(
        self, changes: Mapping[str, Change], purpose: str = "flows"
    ) -> dict[str, Answer]:
        """What each switch said. A Ryu that is gone is an answer too; it never raises."""
        now_ns = time.time_ns()
        answers = {n: Answer(True, c.words(), now_ns) for n, c in changes.items()}
        real = {name: change for name, change in changes.items() if not change.is_empty}
        if not real:
            return answers
        for name, change in real.items():
            self._remember_meters(name, change.meters_add)
        try:
            made = await self._ryu.change(real, next(self._generations), purpose)
        except rpc.RpcError as error:
            made = {n: Answer(False, f"Ryu does not answer: {error}", now_ns) for n in real}
        for name, answer in made.items():
            answers[name] = Answer(
                answer.confirmed, answer.detail or real[name].words(), answer.at_ns
            )
            if not answer.confirmed:
                self._in_step.pop(name, None)
        return answers

    def _remember_meters(self, switch: str, meters: Iterable[Meter]) -> None:
        self.meter_uses[switch].update({m.meter_id: m.use for m in meters if m.use})

    def adopt(
        self, network: Network, state: NetworkState, cookies: Mapping[str, list[int]]
    ) -> None:
        """Slices came or went: from now on this is what the switches carry.

        `cookies`: switch -> whose packets are counted there. Only while holding them all.
        """
        self.network, self.state = network, state
        self._cookies.update(cookies)

    # -- reconciling --------------------------------------------------------------

    async def install(self, known: Collection[str] = ()) -> list[Confirmation]:
        """Bring every switch to `state`, sending only differences.

        Users that are not `known` (their place was restored) and whom the core's rules
        already send elsewhere stay there: a restarted RIC does not move anybody.
        Raises `EnforcementError` when a switch does not connect in time, `rpc.RpcError`
        when Ryu fails.
        """
        status = await self._await_all()
        core, _ = await self._ryu.read(self.network.core)
        for ue_id, cell_id in serving_cells(self.network, core).items():
            if ue_id not in known:
                self.state = self.state.attached(ue_id, Attachment.at(cell_id))
        self._boot = status.boot
        return [done.confirmation for done in await self._catch_up_with(status)]

    async def catch_up(self) -> list[Reconciled]:
        """Reconcile what connected anew or is in doubt; nothing to do is the normal case.

        Raises `rpc.RpcError` while Ryu is away: rules forward without it.
        """
        try:
            status = await self._ryu.status()
        except rpc.RpcError:
            self.connected = ()
            self.ryu_status = None
            self._ryu.close()
            raise
        if status.boot != self._boot:
            self._ryu.close()
            await self._ryu.restore_retired()
            self._boot = status.boot
        return await self._catch_up_with(status)

    async def _catch_up_with(self, status: RyuStatus) -> list[Reconciled]:
        self.ryu_status = status
        self.connected = tuple(sorted(status.switches))
        late = {
            name: (status.boot, number)
            for name, number in status.switches.items()
            if self._in_step.get(name) != (status.boot, number)
        }
        found = await asyncio.gather(*(self.reconcile(name) for name in late))
        for name, confirmation in zip(late, found, strict=True):
            if confirmation.confirmed:
                self._in_step[name] = late[name]
        return found

    async def _await_all(self) -> RyuStatus:
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        missing: Iterable[str] = self.network.switches
        while time.monotonic() < deadline_s:
            with contextlib.suppress(rpc.RpcError):
                status = await self._ryu.status()
                missing = self.network.switches.keys() - status.switches.keys()
                if not missing:
                    return status
            await asyncio.sleep(_CONNECT_POLL_S)
        raise EnforcementError(
            f"switches {', '.join(sorted(missing))} not connected to Ryu "
            f"within {CONNECT_TIMEOUT_S:.0f} s"
        )

    async def reconcile(self, switch: str) -> Reconciled:
        """Read what is installed, send the difference to `state`."""
        async with self.holding([switch]):
            try:
                installed, strangers = await self._ryu.read(switch)
            except rpc.RpcError as error:
                return Reconciled(switch, False, str(error), Change(switch))
            self.debug_flows[switch] = strangers.debug_flows
            intended = compile_switch(self.network, self.state, switch)
            self._cookies[switch] = intended.counted_cookies()
            self._remember_meters(switch, intended.meters.values())
            missing = difference(installed, intended)
            change = replace(missing, aliens_delete=strangers.alien_cookies)
            answers = await self.send({switch: change})
        answer = answers[switch]
        return Reconciled(switch, answer.confirmed, answer.detail, change)

    async def verified(self, switch: str) -> Reconciled | None:
        """As `reconcile`, but nobody waits while a switch that is in order is read.

        None when somebody is changing it: then what was read says nothing.
        """
        try:
            installed, strangers = await self._ryu.read(switch)
        except rpc.RpcError as error:
            return Reconciled(switch, False, str(error), Change(switch))
        if self._locks[switch].locked():
            return None
        missing = difference(installed, compile_switch(self.network, self.state, switch))
        change = replace(missing, aliens_delete=strangers.alien_cookies)
        if not change.is_empty:
            return await self.reconcile(switch)
        self.debug_flows[switch] = strangers.debug_flows
        return Reconciled(switch, True, change.words(), change)

    # -- counting -----------------------------------------------------------------

    async def read_counters(self) -> dict[str, Any]:
        """Switch -> its answer to `counters` of ryu_app.py. Raises `rpc.RpcError`."""
        return await self._ryu.counters(self._cookies)
