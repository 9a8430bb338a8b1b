"""Real task servers in two joined namespaces, for killing them and their coordinator.

The emulation's own engine and supervisor start the instances; a child process (this
module's `main`) coordinates a migration and kills whoever it is told to, at a step.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import instance_socket
from controller.migration import Migration, MigrationError, Step, retire_leftovers
from controller.migrations import EmulationInstances
from controller.outcome import EnforcementResult
from tests.ric_inventory import ric_inventory
from topologies.namespaces import inside
from topologies.scenario.loader import load
from topologies.services.engine import ServiceEngine
from topologies.services.messages import Reply, Request, pack_request, unpack_reply
from topologies.supervisor import Supervisor

HOSTS = ("edge1", "edge2")
SERVICE, ADDRESS, PORT = "assist", "10.1.200.1", 5001
STATE_BYTES = 400_000


@contextlib.contextmanager
def two_servers() -> Iterator[dict[str, int]]:
    """Host -> pid of a process in its namespace; joined by a veth pair, the service in both."""
    names = {host: f"mig-{os.getpid()}-{host}" for host in HOSTS}
    residents = []
    try:
        for name in names.values():
            _command("ip", "netns", "add", name)
            residents.append(subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"]))
        one, two = names.values()
        pair = f"link add m0 netns {one} type veth peer name m0 netns {two}"
        _command("ip", *pair.split())
        for index, name in enumerate(names.values()):
            own, other = f"10.0.0.{10 + index}", f"10.0.0.{11 - index}"
            for words in (
                "link set lo up", "link set m0 up", f"addr add {own}/32 dev m0",
                f"addr add {ADDRESS}/32 dev lo", f"route add {other}/32 dev m0 src {own}",
            ):  # fmt: skip
                _command("ip", "-n", name, *words.split())
        yield {host: p.pid for host, p in zip(HOSTS, residents, strict=True)}
    finally:
        for process in residents:
            process.kill()
            process.wait()
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def inventory_of(pids: dict[str, int]) -> Inventory:
    plain = ric_inventory()
    hosts = [h.model_copy(update={"pid": pids.get(h.name, 1)}) for h in plain.hosts]
    task = {
        "name": SERVICE,
        "slice_id": 1,
        "address": ADDRESS,
        "port": PORT,
        "protocol": "udp",
        "traffic_class": "elastic",
        "host": "edge1",
        "candidates": list(HOSTS),
        "kind": "task",
        "state_bytes": STATE_BYTES,
    }
    document = plain.model_dump(mode="json") | {"services": [task]}
    return Inventory.model_validate(document).model_copy(update={"hosts": hosts})


@dataclass
class Bench:
    run: RunFolder
    inventory: Inventory
    supervisor: Supervisor
    engine: ServiceEngine
    asked: int = 0

    def answers(self) -> dict[str, Reply]:
        """Host -> its reply to one request each, asked inside its own namespace."""
        self.asked += 1
        open_sockets = {}
        for host in HOSTS:
            with inside(self.inventory.host(host).netns_path):
                opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.settimeout(0.1)
            with contextlib.suppress(OSError):
                opened.sendto(pack_request(Request(0, self.asked, 64), 64), (ADDRESS, PORT))
            open_sockets[host] = opened
        found = {}
        for host, opened in open_sockets.items():
            with contextlib.suppress(OSError), opened:
                reply = unpack_reply(opened.recv(2048))
                if reply is not None and reply.request_id == self.asked:
                    found[host] = reply
        return found

    def migrate(self, step: str, victim: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.migration_bench", str(self.run.path), step, victim]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    def recover(self) -> None:
        """What the supervisor and a restarted RIC do."""
        self.supervisor.restart_dead(time.monotonic())
        instances = EmulationInstances(self.run)
        asyncio.run(retire_leftovers(self.run, self.inventory, instances))


@contextlib.contextmanager
def bench(folder: Path, pids: dict[str, int]) -> Iterator[Bench]:
    run = RunFolder(folder)
    run.logs.mkdir(parents=True)
    inventory = inventory_of(pids)
    run.inventory.write_text(inventory.model_dump_json())
    supervisor = Supervisor("migration-test", run.logs, lambda pid, name: None)
    engine = ServiceEngine(run, load("minimal", []), inventory, supervisor)
    try:
        with _serving(run, engine):
            engine.prepare()
            engine.start(time.time_ns())
            yield Bench(run, inventory, supervisor, engine)
    finally:
        supervisor.stop(list(supervisor.children))


@contextlib.contextmanager
def _serving(run: RunFolder, engine: ServiceEngine) -> Iterator[None]:
    """`emulation.sock`, from a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    handlers: dict[str, rpc.Handler] = dict(engine.handlers())
    serving = rpc.serve(run.emulation_socket, handlers)
    server = asyncio.run_coroutine_threadsafe(serving, loop).result(5)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=2) if others else None


async def _coordinate(run: RunFolder, step: str, victim: str) -> None:
    inventory = Inventory.load(run.inventory)

    async def kill_at(now: Step) -> None:
        if now.value != step:
            return
        if victim == "coordinator":
            os.kill(os.getpid(), signal.SIGKILL)
        host = "edge1" if victim == "source" else "edge2"
        status = await asyncio.to_thread(rpc.call, instance_socket(run, SERVICE, host), "status")
        os.kill(status["pid"], signal.SIGKILL)

    async def lead_to(service: str, host: str) -> EnforcementResult:
        return EnforcementResult()

    move: dict[str, Any] = {"service": SERVICE, "source": "edge1", "target": "edge2"}
    done = await Migration(
        run, inventory, EmulationInstances(run), lead_to, on_step=kill_at, **move
    ).run()
    print(done.measured)


if __name__ == "__main__":
    try:
        asyncio.run(_coordinate(RunFolder(Path(sys.argv[1])), sys.argv[2], sys.argv[3]))
    except MigrationError as refused:
        sys.exit(str(refused))
