"""The emulation process: owns the Mininet network and supervises the run's processes.

Started by `testbed.sh up` with a run folder, moves itself into the run's
network namespace, builds the network, starts controllers, agents and traffic
in order, then serves `emulation.sock`.  It decides nothing about slices: it
only keeps the physical space (positions, radio, traffic) going and measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.live_slices import inventory_with, parse
from controller.contracts.run_folder import RunFolder
from topologies import sessions
from topologies.bridge_guard import BridgeGuard
from topologies.bridges import controller_target
from topologies.datapath import Datapath
from topologies.errors import EmulationError
from topologies.manifest import Manifest
from topologies.measurement import Measurement
from topologies.network import build, enter_run_namespace
from topologies.ovs import PrivateOvs
from topologies.radio_shaper import RadioShaper, shaper_of
from topologies.radio_state import RadioState
from topologies.radio_updates import RadioUpdates
from topologies.readiness import READY_TIMEOUT_S, Progress, await_local_controllers
from topologies.repairs import Repairs
from topologies.scenario.schema import Scenario
from topologies.services.engine import ServiceEngine
from topologies.services.functions import Firewalls
from topologies.sessions import host_changes
from topologies.supervisor import Supervisor
from topologies.traffic.engine import TrafficEngine
from topologies.watchdog import BEAT_PERIOD_S, Watchdog

RADIO_PERIOD_S = 0.1
SUPERVISE_PERIOD_S = 0.1
"""While vswitchd is gone, nothing is forwarded."""
CONFIGURATION_PERIOD_S = 1.0


class Emulation:
    """One running testbed, from bring-up to shutdown."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        started = orjson.loads(run.scenario.read_bytes())
        self.scenario = Scenario.model_validate(started["scenario"])
        self.policy: str = started["policy"]
        self.datapath = Datapath(started["datapath"])
        self.extra_xapps: list[str] = started.get("xapps", [])
        self.progress = Progress(run.path / "progress.jsonl")
        self.manifest = Manifest(run.manifest)
        self.repairs = Repairs(run.results / "repairs.jsonl", time.time_ns)
        self.ready = False
        self.stopped = asyncio.Event()

    # -- bring-up ---------------------------------------------------------

    def build_network(self) -> None:
        """Namespace, private Open vSwitch, Mininet network, inventory."""
        self.progress.step("switch")
        in_kernel = self.datapath is Datapath.KERNEL
        self.ovs = PrivateOvs(self.run, self.manifest, with_kernel_datapath=in_kernel)
        enter_run_namespace(self.run)
        self.ovs.start()
        self.progress.step("network")
        self.network = build(self.scenario, self.run, self.manifest, self.policy, self.datapath)
        self.inventory: Inventory = self.network.inventory
        self.current = self.inventory
        """With the slices of the moment; `inventory` is what was built."""
        self.sessions_lock = asyncio.Lock()
        self.run.inventory.write_text(self.inventory.model_dump_json())
        self.ovs.enlarge_send_buffers()

    def start_processes(self, machine_namespace: str) -> None:
        self.progress.step("controllers")
        self.supervisor = Supervisor(self.run.run_id, self.run.logs, self.manifest.record_process)
        folder = str(self.run.path)
        self.radio = RadioState.create(self.run.radio_state, self.inventory)
        self.radio_shaper = shaper_of(self.scenario, self.inventory)
        self.radio_updates = RadioUpdates(
            self.scenario, self.inventory, self.radio, self.radio_shaper
        )
        self.radio_updates.update(0.0)
        self.supervisor.start("ryu", ["controller.ryu_launcher", folder], restart=True)
        for edge in sorted({c.edge for c in self.inventory.cells}):
            path = self.inventory.host(edge).netns_path
            self.supervisor.start(f"local-{edge}", ["controller.local", folder, edge], path, True)
        self.supervisor.start("ric", ["controller.ric", folder], machine_namespace, True)
        self.traffic = TrafficEngine(self.run, self.scenario, self.inventory, self.supervisor.start)
        self.traffic.prepare()
        self.services = ServiceEngine(self.run, self.scenario, self.inventory, self.supervisor)
        self.services.prepare()
        self.supervisor.start("user-agents", ["topologies.user_agents", folder], None, True)

    async def install_slices(self) -> None:
        self.progress.step("slices")
        await self._await_ric("ready", "slices not installed")
        await await_local_controllers(self.run, self.inventory, self.supervisor)

    async def deploy_xapps(self) -> None:
        """The scenario's (the RIC does that by itself), then those of `--xapp`."""
        self.progress.step("xapps")
        status = await self._await_ric("deployed", "xApps not deployed")
        if status["problems"]:
            raise EmulationError(status["problems"][0])
        for folder in self.extra_xapps:
            await self._call_ric("deploy", where=folder)

    async def _await_ric(self, what: str, failure: str) -> dict[str, Any]:
        """Until its status says so; any dead child ends the wait with its last line."""
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for name in ("ryu", "ric"):
                self.supervisor.require_alive(name)
            with contextlib.suppress(rpc.RpcUnavailable):
                status: dict[str, Any] = await self._call_ric("status")
                if status[what]:
                    return status
            await asyncio.sleep(0.05)
        raise EmulationError(
            f"{failure} within {READY_TIMEOUT_S:.0f} s; "
            f"ric: {self.supervisor.last_line('ric')}; ryu: {self.supervisor.last_line('ryu')}"
        )

    async def _call_ric(self, op: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(
            rpc.call, self.run.ric_socket, op, READY_TIMEOUT_S, **arguments
        )

    async def start_traffic(self) -> None:
        self.progress.step("traffic")
        self.t0_ns = await asyncio.to_thread(self.traffic.start)
        await asyncio.to_thread(self.services.start, self.t0_ns)
        self.measurement = Measurement(
            self.run,
            self.scenario,
            self.inventory,
            self.traffic,
            self.ovs.vswitchd_pid,
            self.services,
        )
        if self.radio_shaper is not None:
            self.measurement.radio_drops = self.radio_shaper.drops
        self.firewalls = Firewalls(self.inventory, self.traffic.expect_through)
        self.measurement.function_drops = self.firewalls.drops

    # -- life -------------------------------------------------------------

    @property
    def t_s(self) -> float:
        return (time.time_ns() - self.t0_ns) / 1e9

    async def move_users(self) -> None:
        while not self.stopped.is_set():
            self.radio_updates.update(max(0.0, self.t_s))
            await asyncio.sleep(RADIO_PERIOD_S)

    async def supervise(self) -> None:
        """Start again what ended. A start that fails is tried again."""
        while not self.stopped.is_set():
            try:
                restarted = self.ovs.restart_dead()
                restarted += self.supervisor.restart_dead(time.monotonic())
                await asyncio.to_thread(self.ovs.wire_watch.resume)
            except (EmulationError, OSError) as error:
                self.repairs.note("not_restarted", str(error))
                restarted = []
                await asyncio.sleep(CONFIGURATION_PERIOD_S)
            for name in restarted:
                self.repairs.note("restarted", name)
            await asyncio.sleep(SUPERVISE_PERIOD_S)

    async def watch_hung(self) -> None:
        """End what no longer answers; `supervise` starts it again."""
        edges = {c.edge for c in self.inventory.cells}
        watchdog = Watchdog(
            {
                "ryu": self.run.ryu_socket,
                "ric": self.run.ric_socket,
                **{f"local-{edge}": self.run.local_controller_socket(edge) for edge in edges},
            }
        )
        while not self.stopped.is_set():
            living = {n: c.process.pid for n, c in self.supervisor.children.items() if c.alive}
            for name in await watchdog.beat(living):
                self.supervisor.end_hung(name)
                self.repairs.note("hung", name)
            await asyncio.sleep(BEAT_PERIOD_S)
        watchdog.close()

    async def guard_configuration(self) -> None:
        """Put back bridges, ports, controllers and queue trees that somebody removed."""
        target = controller_target(self.inventory.openflow_tcp_port)
        network = self.network
        guard = BridgeGuard(
            network.plan,
            target,
            self.ovs.vsctl,
            network.remake,
            network.remake_queues,
            self.ovs.hold_wires,
            self.ovs.enlarge_send_buffers,
        )
        while not self.stopped.is_set():
            with contextlib.suppress(EmulationError):  # Open vSwitch is away: supervise's work
                for words in await asyncio.to_thread(guard.repair):
                    self.repairs.note("repaired", words)
            await asyncio.sleep(CONFIGURATION_PERIOD_S)

    def status(self) -> dict[str, Any]:
        return {
            "run_id": self.run.run_id,
            "scenario": self.scenario.name,
            "policy": self.policy,
            "seed": self.scenario.seed,
            "datapath": self.datapath.value,
            "delay": self.datapath.delay,
            "ready": self.ready,
            "t_s": self.t_s if self.ready else None,
            "processes": [
                *self.supervisor.status(),
                *self.ovs.status(),
            ],
            "repairs": self.repairs.recent(),
            "wires_held": self.ovs.wire_watch.is_held,
        }

    def attached(self, ue_id: str, cell_id: str) -> None:
        self.radio_updates.attach(ue_id, cell_id)

    async def slices(self, live: list[dict[str, Any]]) -> list[str]:
        """Exactly these slices live now: hosts get and lose addresses; the hosts touched."""
        async with self.sessions_lock:
            after = inventory_with(self.inventory, parse(live))
            changes = list(host_changes(self.current, after))
            await asyncio.gather(*(asyncio.to_thread(sessions.apply, c) for c in changes))
            self.current = after
        return [change.host.name for change in changes]

    async def measure(self, duration_s: float, slice: str | None = None) -> dict[str, Any]:
        """Per-slice figures of the next `duration_s` seconds of live traffic."""
        return await self.measurement.live(duration_s, slice)

    async def begin(self) -> dict[str, Any]:
        """Start the measured window of a batch run at the next whole window."""
        return self.measurement.begin()

    async def finish(self, out: str) -> dict[str, Any]:
        """Stop traffic, drain, and write the measured window's results to `out`."""
        return await asyncio.to_thread(self.measurement.finish, Path(out))

    async def serve(self) -> None:
        handlers: dict[str, rpc.Handler] = {
            "status": self.status,
            "attached": self.attached,
            "adapt_link": self.radio_updates.adapt,
            "radio_port": self.radio_updates.port,
            "slices": self.slices,
            "measure": self.measure,
            "begin": self.begin,
            "finish": self.finish,
            **self.services.handlers(),
            **self.firewalls.handlers(),
            "shutdown": self.stopped.set,
        }
        server = await rpc.serve(self.run.emulation_socket, handlers)
        self.ready = True
        self.progress.step("ready")
        work = (
            self.move_users(),
            self.supervise(),
            self.watch_hung(),
            self.guard_configuration(),
        )
        tasks = [asyncio.create_task(c) for c in work]
        await self.stopped.wait()
        server.close()
        for task in tasks:
            task.cancel()

    # -- end --------------------------------------------------------------

    def shutdown(self) -> None:
        if hasattr(self, "measurement"):
            self.measurement.stop()
        if hasattr(self, "traffic"):
            self.traffic.end()
        if hasattr(self, "supervisor"):
            self.supervisor.stop(list(self.supervisor.children))
        shaper: RadioShaper | None = getattr(self, "radio_shaper", None)
        if shaper is not None:
            shaper.close()
        if hasattr(self, "network"):
            self.network.stop()
        if hasattr(self, "ovs"):
            self.ovs.stop()

    async def bring_up_and_serve(self, machine_namespace: str) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)
        self.start_processes(machine_namespace)
        await self.install_slices()
        await self.deploy_xapps()
        await self.start_traffic()
        await self.serve()


def main(run_folder: str) -> int:
    emulation = Emulation(RunFolder(Path(run_folder)))
    # The namespace we leave: the RIC lives there. Our pid keeps naming the new
    # one, so hold the old one open and pass it by descriptor path.
    machine = open("/proc/self/ns/net")  # noqa: SIM115  held for the process's life
    machine_namespace = f"/proc/{os.getpid()}/fd/{machine.fileno()}"
    try:
        emulation.build_network()
        asyncio.run(emulation.bring_up_and_serve(machine_namespace))
    except Exception as error:  # process boundary: `up` prints the reason
        emulation.progress.step("failed", f"{error}")
        raise
    finally:
        emulation.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
