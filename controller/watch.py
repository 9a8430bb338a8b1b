"""Keeps switches and queues as intended, whatever happens to them.

Three questions, asked again and again: did a switch or Ryu come back (four times
a second); did anybody touch flows, groups or meters (each switch every 2 s, by a
cheap fingerprint, then properly); did anybody touch queues (every 2 s).  What carries
the cookie of debugging is left alone and told; every other flow is as intended or goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable

from controller.contracts import rpc
from controller.contracts.inventory import PortRole
from controller.errors import SwitchDatabaseError
from controller.repairs import RepairKind, Repairs
from controller.switch_fingerprint import Fingerprints
from controller.switches import Switches

log = logging.getLogger(__name__)

PERIOD_S = 0.1
LOOK_EVERY_S = 2.0
"""Every switch, and all queues, are looked at this often."""


class Watch:
    """`check_queues` looks at all queues and repairs them; told apart so that this file knows
    no OVSDB."""

    def __init__(
        self,
        switches: Switches,
        fingerprints: Fingerprints,
        repairs: Repairs,
        check_queues: Callable[[], Awaitable[None]],
    ) -> None:
        self._switches = switches
        self._fingerprints = fingerprints
        self._repairs = repairs
        self._check_queues = check_queues
        self._seen: dict[str, int] = {}
        self._refused = 0
        self._dead_wires: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled. A failure of one round is told and does not end the watch."""
        await asyncio.gather(self._forever(self._catch_up, PERIOD_S), self._look_around())

    async def _forever(self, work: Callable[[], Awaitable[None]], period_s: float) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                await work()
            except (rpc.RpcError, SwitchDatabaseError):
                continue  # Ryu or vswitchd is away; rules forward without them
            except Exception:  # a fault of ours in one round must not end all watching
                log.exception("the watch stumbled and goes on")

    async def _look_around(self) -> None:
        turns = itertools.cycle([*self._switches.network.switches, None])
        count = len(self._switches.network.switches) + 1

        async def look() -> None:
            switch = next(turns)
            await (self._check_queues() if switch is None else self.look_at(switch))

        await self._forever(look, LOOK_EVERY_S / count)

    async def _catch_up(self) -> None:
        for done in await self._switches.catch_up():
            kind = RepairKind.RECONCILED if done.confirmed else RepairKind.NOT_RECONCILED
            self._repairs.note(kind, done.switch, done.detail)
        status = self._switches.ryu_status
        total = 0 if status is None else sum(status.refused.values())
        if status is not None and total > self._refused:
            self._repairs.note(RepairKind.REFUSED_CONNECTION, "ryu", status.last_refusal)
        self._refused = total
        if status is not None:
            self._note_wires(status.dead_ports)

    def _note_wires(self, dead_ports: frozenset[tuple[str, int]]) -> None:
        dead = {
            port.interface: f"{port.switch} to {port.peer}"
            for switch, ports in self._switches.network.ports.items()
            for port in ports
            if port.role is PortRole.INFRASTRUCTURE and (switch, port.port_no) in dead_ports
        }
        for interface in sorted(dead.keys() - self._dead_wires.keys()):
            self._repairs.note(RepairKind.WIRE_DOWN, interface, dead[interface])
        for interface in sorted(self._dead_wires.keys() - dead.keys()):
            self._repairs.note(RepairKind.WIRE_UP, interface, self._dead_wires[interface])
        self._dead_wires = dead

    async def look_at(self, switch: str) -> None:
        """Repair the switch if anybody touched it since the last look.

        Raises `SwitchDatabaseError` when it does not answer.
        """
        found = await self._fingerprints.read(switch)
        if found == self._seen.get(switch) or switch not in self._switches.connected:
            return
        # Seen before the proper read: what changes in between shows at the next look.
        debug_before = self._switches.debug_flows.get(switch, 0)
        done = await self._switches.verified(switch)
        if done is None:
            return
        if done.change.is_empty and done.confirmed:
            self._seen[switch] = found
        else:
            kind = RepairKind.REPAIRED if done.confirmed else RepairKind.NOT_RECONCILED
            self._repairs.note(kind, switch, done.detail)
        debug = self._switches.debug_flows.get(switch, 0)
        if debug > debug_before:
            self._repairs.note(RepairKind.DEBUG, switch, f"{debug} flows for debugging were added")

    def alarms(self) -> list[str]:
        """What is wrong now, beside what was repaired lately."""
        found = []
        if self._switches.ryu_status is None:
            found.append("Ryu does not answer; rules forward without it")
        else:
            away = self._switches.network.switches.keys() - set(self._switches.connected)
            found += [f"switch {name} is not connected to Ryu" for name in sorted(away)]
        found += [
            f"switch {name} carries {count} flows for debugging"
            for name, count in sorted(self._switches.debug_flows.items())
            if count
        ]
        found += [f"wire {name} is down ({ends})" for name, ends in self._dead_wires.items()]
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._fingerprints.close()
