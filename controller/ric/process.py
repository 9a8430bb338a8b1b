"""The RIC's process: sockets, start, life and end.

Order: all sockets first, so that a port in use ends it before anything is
changed; then the switches; then `ready`; then xApps.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from pydantic import ValidationError

from controller.contracts import rpc
from controller.contracts.addressing import CENTRE_IP, CENTRE_UDP_PORT
from controller.contracts.decisions import DecisionRequest
from controller.contracts.inventory import Inventory, XappPlacement
from controller.contracts.live_slices import current_inventory
from controller.contracts.run_folder import RunFolder
from controller.local.onnx_model import OnnxModel, load_model
from controller.local.prediction import DEMAND
from controller.ric.app import create_app
from controller.ric.enforcing import Enforcing
from controller.ric.errors import Conflict, RicError, StartError
from controller.ric.netns import http_listener, open_socket, udp_receiver
from controller.ric.observation import AggregateReceiver
from controller.ric.state import Ric
from controller.ric.xapp_program import Deployment, xapp_folder
from controller.ric.xapps import PROJECT
from controller.store.errors import SdlException
from controller.store.sdl import open_store

NICENESS = -10
"""Between a twin's update and the switch lie milliseconds, also beside busy senders."""
XAPP_PORT = 8080
"""Where xApps find the API in the namespace they are placed in."""
XAPP_POLICIES = ("xapps", "model", "placebo")
KEEP_ALIVE_S = 75
XAPP_END_GRACE_S = 0.5

MakeEnforcer = Callable[[RunFolder, Inventory], Enforcing]


@dataclass(frozen=True)
class Sockets:
    http: list[socket.socket]
    aggregates: socket.socket


class Server(uvicorn.Server):
    """Signals are the RIC's own: xApps and files come before the process ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def load_inventory(run: RunFolder) -> Inventory:
    try:
        return current_inventory(run)
    except OSError as error:
        raise StartError(f"no inventory at {run.inventory}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise StartError(f"{run.inventory}: {place}: {fault['msg']}") from None


def open_sockets(inventory: Inventory) -> Sockets:
    """Raises `StartError`; the machine's port first, the one that others may hold."""
    port = inventory.northbound_tcp_port
    opened = [
        open_socket(
            lambda: http_listener("127.0.0.1", port),
            f"port {port} of 127.0.0.1",
            "end its holder, or choose another northbound_port in the scenario",
            None,
        )
    ]
    for host in inventory.hosts:
        if host.kind in ("edge", "centre"):
            opened.append(
                open_socket(
                    lambda: http_listener("127.0.0.1", XAPP_PORT),
                    f"port {XAPP_PORT} in host {host.name}",
                    "is another RIC running on this network?",
                    host.netns_path,
                )
            )
    centre = next((host for host in inventory.hosts if host.kind == "centre"), None)
    if centre is None:
        raise StartError("the inventory has no host of kind 'centre'")
    aggregates = open_socket(
        lambda: udp_receiver(CENTRE_IP, CENTRE_UDP_PORT),
        f"{CENTRE_IP}:{CENTRE_UDP_PORT} in host {centre.name}",
        "is another RIC running on this network?",
        centre.netns_path,
    )
    return Sockets(opened, aggregates)


def operations(ric: Ric, stopped: asyncio.Event) -> dict[str, rpc.Handler]:
    """The ops of ric.sock, for the testbed's other processes."""

    async def decide(request: dict[str, Any]) -> dict[str, Any]:
        if not ric.progress.ready:
            raise Conflict("slices are not installed yet")
        parsed = DecisionRequest.model_validate(request)
        decided = await ric.pipeline.decide(parsed, trusted=True)
        return decided.record.model_dump(mode="json")

    async def counters() -> dict[str, Any]:
        sample = await ric.read_counters()
        return {
            "taken_at_ns": sample.taken_at_ns,
            "classes": [
                {
                    "cell_id": cell_id,
                    "slice_id": slice_id,
                    "traffic_class": traffic_class.value,
                    "arrived_bytes": count.arrived_bytes,
                    "delivered_bytes": count.delivered_bytes,
                }
                for (cell_id, slice_id, traffic_class), count in sample.classes.items()
            ],
            "users": [
                {"ue_id": ue_id, "cell_id": cell_id, "delivered_bytes": delivered_bytes}
                for (ue_id, cell_id), delivered_bytes in sample.users.items()
            ],
        }

    async def deploy(where: str) -> dict[str, Any]:
        """An xApp beside the scenario's, by its folder."""
        try:
            return (await ric.xapps.deploy(Deployment(where))).document()
        except RicError as error:
            raise rpc.RpcError(error.message) from error

    return {
        "status": ric.status,
        "decide": decide,
        "deploy": deploy,
        "counters": counters,
        "slice_life": ric.slices.lived,
        "whatif": ric.whatif.summary,
        "switch_counters": ric.enforcer.switch_counters,
        "records": lambda: [r.model_dump(mode="json") for r in ric.decisions.all_records()],
        "flush": lambda out: ric.flush(Path(out)),
        "shutdown": stopped.set,
    }


async def install_slices(ric: Ric) -> None:
    """Raises `StartError` unless every switch confirms."""
    try:
        await ric.enforcer.start()
        confirmations = await ric.enforcer.install()
    except Exception as error:  # whatever a switch, Ryu or OVSDB says becomes the one line
        raise StartError(f"slices cannot be installed: {error}") from error
    missing = [c for c in confirmations if not c.confirmed]
    if missing:
        reasons = "; ".join(f"{c.switch}: {c.detail or 'no confirmation'}" for c in missing)
        raise StartError(f"slices are not confirmed by {reasons}")
    for cell in ric.inventory.cells:
        ric.show_reservations(cell.cell_id)


async def forecast_model() -> OnnxModel:
    """Beside the installation, because loading takes half a second. Raises `StartError`."""
    try:
        return await asyncio.to_thread(load_model, DEMAND)
    except (OSError, ValueError) as error:
        raise StartError(f"the forecast model cannot be used: {error}") from error


async def deploy_xapps(ric: Ric) -> None:
    """The scenario's xApps, side by side; one that does not start is one line and an alarm."""

    async def deploy(xapp: XappPlacement) -> None:
        try:
            await ric.xapps.deploy(Deployment(xapp.name, xapp.placement, xapp.config))
        except RicError as error:
            ric.progress.problems[str(xapp_folder(xapp.name, PROJECT))] = error.message
            print(f"ric: {error.message}", file=sys.stderr, flush=True)

    if ric.inventory.policy in XAPP_POLICIES:
        await asyncio.gather(*(deploy(xapp) for xapp in ric.inventory.xapps))
    ric.progress.deployed = True


async def live(ric: Ric, sockets: Sockets) -> None:
    """Until a signal or the op `shutdown`; raises `StartError`."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    config = uvicorn.Config(
        create_app(ric),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        http="httptools",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    async with contextlib.AsyncExitStack() as stack:
        serving = asyncio.ensure_future(server.serve(sockets=sockets.http))
        stack.push_async_callback(end, ric, server, serving)
        operating = await rpc.serve(ric.run.ric_socket, operations(ric, stopped))
        stack.callback(operating.close)
        transport, _ = await loop.create_datagram_endpoint(
            lambda: AggregateReceiver(ric.centre), sock=sockets.aggregates
        )
        stack.callback(transport.close)
        loading = asyncio.ensure_future(forecast_model())
        stack.callback(loading.cancel)
        installing = asyncio.ensure_future(install_slices(ric))
        ending = asyncio.ensure_future(stopped.wait())
        stack.callback(ending.cancel)
        await asyncio.wait((installing, ending), return_when=asyncio.FIRST_COMPLETED)
        if not installing.done():
            installing.cancel()
            return
        installing.result()
        await ric.slices.synchronise()
        ric.forecasts.model = await loading
        workers = (ric.poller, ric.user_feed, ric.service_loads, ric.shared, ric.budget)
        tasks = [asyncio.ensure_future(worker.run()) for worker in workers]
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        ric.progress.ready = True
        print("ready", flush=True)
        tasks.append(asyncio.ensure_future(ric.user_decisions.recover()))
        tasks.append(asyncio.ensure_future(deploy_xapps(ric)))
        for task in tasks:
            stack.callback(task.cancel)
        await ending


async def end(ric: Ric, server: Server, serving: asyncio.Future[None]) -> None:
    ric.progress.ready = False
    server.should_exit = True
    ric.centre.stream.close()
    ric.channels.close()
    await ric.whatif.stop()
    await ric.xapps.stop_all(XAPP_END_GRACE_S)
    await asyncio.gather(serving, return_exceptions=True)
    await ric.enforcer.stop()
    ric.close()
    ric.run.ric_socket.unlink(missing_ok=True)


def run_ric(folder: Path, make_enforcer: MakeEnforcer) -> int:
    """Exit status: 0 after an orderly end, 1 with one line when it cannot start."""
    run = RunFolder(folder)
    try:
        inventory = load_inventory(run)
        sockets = open_sockets(inventory)
        # Not root: then it also could not have joined a namespace, so this is a test's.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        uvloop.run(start(run, inventory, make_enforcer, sockets))
    except StartError as error:
        print(f"ric: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


async def start(
    run: RunFolder, inventory: Inventory, make_enforcer: MakeEnforcer, sockets: Sockets
) -> None:
    try:
        store = open_store()
    except (SdlException, ValueError) as error:
        raise StartError(f"the store at DBAAS_SERVICE_HOST: {error}") from error
    try:
        ric = Ric(run, inventory, make_enforcer(run, inventory), store)
    except OSError as error:
        raise StartError(f"cannot use the run folder {run.path}: {error}") from error
    await live(ric, sockets)
