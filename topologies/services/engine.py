"""Starts and ends instances of task services and their clients; part of the emulation.

It decides nothing: which instance serves is said by the lease, and who moves it is
the controller's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import (
    Holder,
    Lease,
    host_index,
    instance_socket,
    lease_path,
    task_services,
)
from topologies.errors import EmulationError
from topologies.scenario.schema import Scenario
from topologies.services.clients import clients_socket
from topologies.services.instance_order import InstanceOrder
from topologies.services.packet_counts import Datagrams, PacketCounts, counts_path
from topologies.supervisor import Supervisor

READY_TIMEOUT_S = 10.0
REPLIES_DRAIN_S = 0.3


class ServiceEngine:
    """One run's task services. Does nothing when the scenario has none."""

    def __init__(
        self, run: RunFolder, scenario: Scenario, inventory: Inventory, supervisor: Supervisor
    ) -> None:
        self._run, self._scenario, self._inventory = run, scenario, inventory
        self._supervisor = supervisor
        self._tasks = {s.name: s for s in task_services(inventory)}
        self._has_clients = bool(scenario.requests)

    def prepare(self) -> None:
        """Leases, the first instances, clients; returns without waiting for them."""
        for service in self._tasks.values():
            first = Holder(0, host_index(self._inventory, service.host))
            Lease.create(lease_path(self._run, service.name), first).close()
            self._spawn(service.name, service.host)
        if self._has_clients:
            folder = str(self._run.path)
            self._supervisor.start(
                "service-clients", ["topologies.services.clients", folder], None, False
            )

    def start(self, t0_ns: int) -> None:
        """Clients begin at scenario time 0. Raises `EmulationError` when something is not up."""
        for service in self._tasks.values():
            self._await_answer(
                _child(service.name, service.host),
                instance_socket(self._run, service.name, service.host),
            )
        if self._has_clients:
            self._await_answer("service-clients", clients_socket(self._run))
            self._clients("start", t0_ns=t0_ns)

    def stop(self) -> None:
        """Clients stop asking, then what is under way arrives."""
        if self._has_clients:
            self._clients("stop")
            longest_s = max(r.timeout_ms for r in self._scenario.requests) / 1000
            deadline_s = time.monotonic() + longest_s
            last, since_s = -1, time.monotonic()
            while time.monotonic() < deadline_s:
                answered = int(self._clients("status")["answered"])
                if answered != last:
                    last, since_s = answered, time.monotonic()
                elif time.monotonic() - since_s > REPLIES_DRAIN_S:
                    return
                time.sleep(0.02)

    def collect(self, since_ns: int, until_ns: int, service: str | None = None) -> dict[str, Any]:
        """{"rows": one a request, "regressions": by service}; empty without clients."""
        if not self._has_clients:
            return {"rows": [], "regressions": {}}
        rows = self._clients("collect", since_ns=since_ns, until_ns=until_ns, service=service)
        return {"rows": rows, "regressions": self._clients("regressions")}

    def packets(self) -> dict[int, Datagrams]:
        """By slice id: requests and replies so far, those of instances that are gone included."""
        found = {s.slice_id: Datagrams() for s in self._tasks.values()}
        for service in self._tasks.values():
            for host in dict.fromkeys([service.host, *service.candidates]):
                path = counts_path(self._run, service.name, host)
                if path.exists():
                    counts = PacketCounts(path)
                    found[service.slice_id] += counts.total()
                    counts.close()
        if self._has_clients:
            for name, (sent, received) in self._clients("packets").items():
                found[self._tasks[name].slice_id] += Datagrams(sent, received)
        return found

    # -- instances, asked for by the controller -------------------------------------

    def start_instance(self, service: str, host: str) -> None:
        """A standby instance that answers on its control socket. Raises `EmulationError`."""
        self._known(service, host)
        name = _child(service, host)
        child = self._supervisor.children.get(name)
        if child is None or not child.alive:
            self._spawn(service, host)
        self._await_answer(name, instance_socket(self._run, service, host))

    def stop_instance(self, service: str, host: str) -> None:
        """Nothing to do when there is none."""
        self._known(service, host)
        self._supervisor.stop([_child(service, host)])
        instance_socket(self._run, service, host).unlink(missing_ok=True)

    def instances(self) -> list[dict[str, Any]]:
        """Every instance that is supervised: service, host, pid, alive."""
        found = []
        for service in self._tasks.values():
            for host in dict.fromkeys([service.host, *service.candidates]):
                child = self._supervisor.children.get(_child(service.name, host))
                if child is not None:
                    found.append(
                        {
                            "service": service.name,
                            "host": host,
                            "pid": child.process.pid,
                            "alive": child.alive,
                        }
                    )
        return found

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """Ops of `emulation.sock`; starting and ending take time, so beside its event loop."""

        async def start_instance(service: str, host: str) -> None:
            await asyncio.to_thread(self.start_instance, service, host)

        async def stop_instance(service: str, host: str) -> None:
            await asyncio.to_thread(self.stop_instance, service, host)

        async def offload(ue_id: str, service: str, to: str) -> None:
            """Raises `EmulationError` without requests in the scenario."""
            if not self._has_clients:
                raise EmulationError("nobody asks a task service in this scenario")
            await asyncio.to_thread(self._clients, "offload", ue_id=ue_id, service=service, to=to)

        async def offloads() -> list[dict[str, str]]:
            found = await asyncio.to_thread(self._clients, "offloads") if self._has_clients else []
            return list(found)

        async def requests(service: str, since_ns: int, until_ns: int) -> list[dict[str, Any]]:
            found = await asyncio.to_thread(self.collect, since_ns, until_ns, service)
            return list(found["rows"])

        return {
            "start_instance": start_instance,
            "stop_instance": stop_instance,
            "instances": self.instances,
            "requests": requests,
            "offload": offload,
            "offloads": offloads,
        }

    def _known(self, service: str, host: str) -> None:
        found = self._tasks.get(service)
        if found is None:
            known = ", ".join(self._tasks) or "none"
            raise EmulationError(f"unknown task service {service!r}; known: {known}")
        candidates = dict.fromkeys([found.host, *found.candidates])
        if host not in candidates:
            raise EmulationError(
                f"service {service} cannot run in {host!r}; candidates: {', '.join(candidates)}"
            )

    def _spawn(self, service: str, host: str) -> None:
        order = InstanceOrder.of(self._inventory, service, host).written()
        arguments = ["topologies.services.task_server", str(self._run.path), service, host, order]
        namespace = self._inventory.host(host).netns_path
        self._supervisor.start(_child(service, host), arguments, namespace, True)

    def _await_answer(self, name: str, path: Path) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self._supervisor.require_alive(name)
            with contextlib.suppress(rpc.RpcError):
                rpc.call(path, "status", 2.0)
                return
            time.sleep(0.02)
        raise EmulationError(f"{name} does not answer: {self._supervisor.last_line(name)}")

    def _clients(self, op: str, **arguments: Any) -> Any:
        return rpc.call(clients_socket(self._run), op, 30.0, **arguments)


def _child(service: str, host: str) -> str:
    return f"service-{service}-{host}"
