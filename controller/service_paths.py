"""Where a service's packets go: rules that follow the service to another server.

Its address stands on every candidate, so only destination port and MAC change: one
bundle a switch, the far side first.  Between two switches, what is on the wires arrives by
the rules it was sent by: a switch that had changed already would have to send it back, and
drops it.  Whoever still comes the old way is passed on by the old instance.
"""

from __future__ import annotations

import asyncio
import time

from controller.contracts.inventory import Inventory, Service
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import Lease, lease_path, task_services
from controller.errors import UnknownTargetError
from controller.network_state import NetworkState
from controller.outcome import EnforcementResult, confirmations_of
from controller.reconcile import Change, difference
from controller.rules import compile_attachments
from controller.ryu_client import Answer
from controller.switches import Switches

REVALIDATED_MS = 50
"""Open vSwitch forwards by the old rules until it has looked at all its flows again."""


def served_as_leased(state: NetworkState, inventory: Inventory, run: RunFolder) -> NetworkState:
    """A restarted controller finds services where their leases say, not where they began."""
    for service in task_services(inventory):
        path = lease_path(run, service.name)
        if path.exists():
            lease = Lease(path)
            state = state.served_by(service.name, inventory.hosts[lease.holder().host_index].name)
            lease.close()
    return state


class ServicePaths:
    """Rules of services on all switches. Raises `UnknownTargetError`."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._network = switches.network
        self._services = {s.name: s for s in switches.network.inventory.services}

    def host_of(self, name: str) -> str:
        return self._switches.state.service_host(self._known(name))

    def _known(self, name: str) -> Service:
        if name not in self._services:
            known = ", ".join(self._services)
            raise UnknownTargetError(f"unknown service {name!r}; known: {known}")
        return self._services[name]

    def diff(self, name: str, host: str) -> EnforcementResult:
        """What `lead_to` would change."""
        before = self._switches.state
        after = before.served_by(self._known(name).name, host)
        changes = [self._change(s, before, after) for s in self._order(name, host)]
        return EnforcementResult(diff=Change.diff(changes, {}))

    async def lead_to(self, name: str, host: str) -> EnforcementResult:
        """Far side first, one bundle a switch, each when the wires have drained. What is not
        confirmed stays intended: the lease has moved already, so the watch goes on trying,
        never back."""
        self._known(name)
        order = self._order(name, host)
        answers: dict[str, Answer] = {}
        changes = []
        async with self._switches.holding(order):
            before = self._switches.state
            after = before.served_by(name, host)
            self._switches.state = after
            for number, switch in enumerate(order):
                if number:
                    await asyncio.sleep(self._drained_s(order[number - 1]))
                change = self._change(switch, before, after)
                changes.append(change)
                answers.update(await self._switches.send({switch: change}))
        enforced_ns = max(a.at_ns for a in answers.values())
        hops_ns = {"enforced": enforced_ns, "confirmed": time.time_ns()}
        return EnforcementResult(confirmations_of(answers), Change.diff(changes, {}), hops_ns)

    def _drained_s(self, switch: str) -> float:
        """Until what it had sent by its rules before has arrived."""
        longest_ms = max(p.delay_ms for p in self._network.ports[switch])
        return (longest_ms + REVALIDATED_MS) / 1000

    def _order(self, name: str, host: str) -> list[str]:
        far = self._network.hosts[host].switch
        near = self._network.hosts[self.host_of(name)].switch
        return list(dict.fromkeys([far, self._network.core, near]))

    def _change(self, switch: str, before: NetworkState, after: NetworkState) -> Change:
        return difference(
            compile_attachments(self._network, before, switch),
            compile_attachments(self._network, after, switch),
        )
