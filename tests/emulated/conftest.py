"""The one network fixture: a real network of a scenario, removed afterwards."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.contracts.inventory import Inventory, Service
from controller.contracts.run_folder import RunFolder
from topologies import cleanup, namespaces
from topologies.datapath import Datapath
from topologies.manifest import Manifest, create_run_folder
from topologies.network import EmulatedNetwork, build, enter_run_namespace
from topologies.ovs import PrivateOvs
from topologies.scenario.schema import Scenario

REVALIDATE_MS, OWN_REVALIDATE_MS = 100, 500
"""At most between two rounds of the revalidator; the second is Open vSwitch's own choice. Tests ask
often for exact flow totals, and these wait for two rounds."""
RUNS_FOLDER = Path(os.environ.get("HOLON_RUNS_ROOT", "/tmp/holon-test-runs"))


def _missing() -> str | None:
    if os.geteuid() != 0:
        return "root"
    tools = ("ovs-vswitchd", "ovsdb-server", "mnexec", "wirefilter", "tc", "nsenter", "iperf3")
    return next((tool for tool in tools if shutil.which(tool) is None), None)


@pytest.fixture(scope="session", autouse=True)
def _requirements() -> None:
    missing = _missing()
    if missing is not None:
        pytest.skip(f"emulated tests need {missing}")


@dataclass
class Testbed:
    """A network that stands, without a controller. The tests' thread is inside its namespace."""

    __test__ = False

    run: RunFolder
    manifest: Manifest
    ovs: PrivateOvs
    network: EmulatedNetwork

    @property
    def inventory(self) -> Inventory:
        return self.network.inventory

    def netns(self, host: str) -> str:
        return self.inventory.host(host).netns_path

    def session_ip(self, user: str, slice_id: int) -> str:
        sessions = self.inventory.user(user).sessions
        return next(s.ip for s in sessions if s.slice_id == slice_id)

    def service(self, name: str) -> Service:
        return next(s for s in self.inventory.services if s.name == name)

    def in_host(self, host: str, *command: str, timeout_s: float = 30.0) -> str:
        return namespaces.run_in(self.netns(host), command, timeout_s=timeout_s)


def new_run() -> RunFolder:
    return RunFolder(RUNS_FOLDER / f"t-net-{uuid.uuid4().hex[:6]}")


@contextmanager
def testbed(
    scenario: dict[str, Any],
    policy: str = "xapps",
    datapath: Datapath = Datapath.USERSPACE,
    revalidate_ms: int = REVALIDATE_MS,
) -> Iterator[Testbed]:
    """Build a scenario given as a document; remove every trace of it afterwards."""
    run = new_run()
    manifest = create_run_folder(run)
    environment = dict(os.environ)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ovs = PrivateOvs(run, manifest, with_kernel_datapath=datapath is Datapath.KERNEL)
        enter_run_namespace(run)
        ovs.start()
        ovs.vsctl(["set", "Open_vSwitch", ".", f"other_config:max-revalidator={revalidate_ms}"])
        network = build(Scenario.model_validate(scenario), run, manifest, policy, datapath)
        try:
            ovs.enlarge_send_buffers()
            yield Testbed(run, manifest, ovs, network)
        finally:
            network.stop()
            ovs.stop()
    finally:
        namespaces.enter(f"/proc/self/fd/{home}")
        os.close(home)
        os.environ.clear()
        os.environ.update(environment)
        cleanup.remove(run)
        assert cleanup.remains(run) == []


@pytest.fixture(scope="module")
def make_testbed() -> Callable[..., Any]:
    return testbed
