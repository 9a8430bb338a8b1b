"""Trying out the installed Open vSwitch: a private one for half a second, then removed."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from controller.contracts.run_folder import RunFolder
from topologies import cleanup, namespaces
from topologies.errors import SwitchError
from topologies.manifest import create_run_folder
from topologies.ovs import PrivateOvs

_BRIDGE = "probe"


def try_meters(datapath_type: str) -> None:
    """Add a meter to a bridge of that type ("netdev", "system") and read it back.

    Raises `EmulationError`.
    """
    with tempfile.TemporaryDirectory(prefix="holon-doctor-") as folder:
        run = RunFolder(Path(folder) / f"doctor-{secrets.token_hex(3)}")
        manifest = create_run_folder(run)
        try:
            manifest.record_namespace(run.namespace)
            namespaces.create(run.namespace)
            ovs = PrivateOvs(run, manifest, with_kernel_datapath=datapath_type == "system")
            with namespaces.inside(namespaces.named_path(run.namespace)):
                ovs.start()
                _add_meter(ovs, datapath_type)
            ovs.stop()
        finally:
            cleanup.remove(run)


def _add_meter(ovs: PrivateOvs, datapath_type: str) -> None:
    ovs.vsctl(
        ["add-br", _BRIDGE, "--", "set", "Bridge", _BRIDGE,
         f"datapath_type={datapath_type}", "protocols=OpenFlow13"]
    )  # fmt: skip
    ovs.ofctl("add-meter", _BRIDGE, "meter=1,kbps,burst,band=type=drop,rate=1000,burst_size=100")
    if "rate=1000" not in ovs.ofctl("dump-meters", _BRIDGE):
        raise SwitchError("a meter was accepted but is not there when read back")
