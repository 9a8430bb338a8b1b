"""Starts the plan's wires with delay or loss, of the kind that the datapath takes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from controller.contracts.run_folder import RunFolder
from topologies.datapath import Datapath
from topologies.errors import WireError
from topologies.manifest import Manifest
from topologies.netem import NetemWire
from topologies.plan import Plan, PlannedHost
from topologies.wires import Wire, WireEnd

AnyWire = Wire | NetemWire
_TIMEOUT_S = 5.0


def start_wires(
    plan: Plan,
    datapath: Datapath,
    pids: Mapping[str, int],
    run: RunFolder,
    manifest: Manifest,
    wires: dict[str, AnyWire],
) -> None:
    """Start all, adding each to `wires` by its switch end's interface, e.g. `core_4`.

    Their interfaces exist; `pids`: host -> process in it.  Returns at once:
    `await_wires` tells that they carry.  Raises `WireError`.
    """
    folder = run.path / "wires"
    folder.mkdir(exist_ok=True)
    for link in plan.links:
        if not link.over_wire:
            continue
        interface = link.left.interface
        if datapath is Datapath.KERNEL:
            netem = wires[interface] = NetemWire(interface, link.delay_ms, link.loss_ratio)
            netem.start()
            continue
        pid = pids[link.right.name] if isinstance(link.right, PlannedHost) else None
        ends = WireEnd(interface), WireEnd(link.right.interface, pid)
        wire = wires[interface] = Wire(*ends, link.delay_ms, link.loss_ratio, folder)
        wire.start(run.run_id, manifest)


def await_wires(wires: Mapping[str, AnyWire]) -> None:
    """Until all carry. Raises `WireError` when one has ended or is late."""
    deadline_s = time.monotonic() + _TIMEOUT_S
    while not all(wire.ready for wire in wires.values()):
        if time.monotonic() > deadline_s:
            late = [name for name, wire in wires.items() if not wire.ready]
            raise WireError(f"wires {', '.join(late)} not up within {_TIMEOUT_S:.0f} s")
        time.sleep(0.005)
