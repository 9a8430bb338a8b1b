"""Builds the emulated network of a scenario with Mininet inside the run's namespace.

Mininet makes the hosts (namespaces with a shell) and the links; bridges, queue
trees, filters and wires are put on top.  No Mininet class that touches sysctls,
system services or other people's interfaces is used.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.contracts.inventory import Inventory, Port, PortRole
from controller.contracts.run_folder import RunFolder
from topologies import hosts, namespaces, queue_filter
from topologies.bridges import hands_off, queue_trees, transaction, transactions_in_order
from topologies.datapath import Datapath
from topologies.describe import OPENFLOW_TCP_PORT, POLICIES, describe
from topologies.errors import EmulationError, NamespaceError, SwitchError
from topologies.leaf_queues import LeafQueues
from topologies.manifest import Manifest
from topologies.netem import inner_ends
from topologies.ovs import environment
from topologies.plan import Plan, PlannedHost, PlannedLink, plan_network
from topologies.radio import serving_cell_at_start
from topologies.scenario.schema import Scenario
from topologies.wiring import AnyWire, await_wires, start_wires

with warnings.catch_warnings():
    # Mininet 2.3 compares versions with distutils, deprecated in Python 3.11.
    warnings.simplefilter("ignore", DeprecationWarning)
    from mininet.link import Link
    from mininet.node import Host, Node, Switch

_FILTER_FILE = "queue-filter.bpf"


def enter_run_namespace(run: RunFolder) -> None:
    """Move this thread into the run's namespace, making it first when it is new.

    Puts the run's Open vSwitch into the environment, so that children find it.
    Raises `NamespaceError` when a namespace of that name is somebody else's.
    """
    manifest = Manifest(run.manifest)
    ours = run.namespace in manifest.names("namespace")
    if not namespaces.exists(run.namespace):
        manifest.record_namespace(run.namespace)
        namespaces.create(run.namespace)
    elif not ours:
        raise NamespaceError(
            f"network namespace {run.namespace} exists and is not of this run ({run.path})"
        )
    namespaces.enter(namespaces.named_path(run.namespace))
    os.environ.update(environment(run))


class Bridge(Switch):  # type: ignore[misc]  # Mininet ships no types
    """A bridge of the private Open vSwitch; needs no shell of its own.

    Its interfaces live in this process's namespace, configured by `bridges.py`.
    """

    def startShell(self, mnopts: str | None = None) -> None:  # noqa: N802  Mininet's name
        self.pid = os.getpid()

    def cmd(self, *words: Any, **_: Any) -> str:
        command = " ".join(str(w) for w in words)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        return done.stdout + done.stderr

    def terminate(self) -> None:
        """Nothing runs in it."""


class TapPair(Link):  # type: ignore[misc]  # Mininet ships no types
    """Two taps instead of a veth pair: the ends of a wire in userspace mode, joined later."""

    @classmethod
    def makeIntfPair(  # noqa: N802  Mininet's name
        cls, intfname1: str, intfname2: str, addr1: str | None = None,
        addr2: str | None = None, node1: Any = None, node2: Any = None,
        deleteIntfs: bool = True,  # noqa: N803
    ) -> None:  # fmt: skip
        for name, address, node in ((intfname1, addr1, node1), (intfname2, addr2, node2)):
            words = f"ip tuntap add dev {name} mode tap"
            if address is not None:
                words += f" && ip link set dev {name} address {address}"
            _require_silence(node.cmd(words), f"tap {name}")


class NetemPairs(Link):  # type: ignore[misc]  # Mininet ships no types
    """Two veth pairs instead of one: a wire in kernel mode, joined later in the middle.

    The first node is a switch, so its end and the inner ends are in this namespace.
    """

    @classmethod
    def makeIntfPair(  # noqa: N802  Mininet's name
        cls, intfname1: str, intfname2: str, addr1: str | None = None,
        addr2: str | None = None, node1: Any = None, node2: Any = None,
        deleteIntfs: bool = True,  # noqa: N803
    ) -> None:  # fmt: skip
        near, far = inner_ends(intfname1)
        address1 = f"address {addr1}" if addr1 is not None else ""
        address2 = f"address {addr2}" if addr2 is not None else ""
        where = f"netns {node2.pid}" if node2.inNamespace else ""
        words = (
            f"ip link add name {intfname1} {address1} type veth peer name {near} && "
            f"ip link add name {far} type veth peer name {intfname2} {address2} {where}"
        )
        _require_silence(node1.cmd(words), f"veth pairs of {intfname1}")


@dataclass
class EmulatedNetwork:
    """The network that stands. `inventory` is what the controller may know of it."""

    inventory: Inventory
    plan: Plan
    wires: dict[str, AnyWire]
    """By the interface at the switch's end, e.g. `core_4`."""
    leaf_queues: LeafQueues
    _run: RunFolder
    _nodes: dict[str, Node]

    def install_filters(self) -> None:
        """Queue filters on all ports with a rate; none without slicing or in kernel mode."""
        _install_filters(
            self.plan, self._run, self.inventory.slicing, Datapath(self.inventory.datapath)
        )

    def remake(self, part: Plan) -> None:
        """Configure these switches again, on interfaces that stand. Raises `EmulationError`."""
        datapath = Datapath(self.inventory.datapath)
        _set_up_switch_ports(part)
        arguments = transaction(
            part,
            self.inventory.openflow_tcp_port,
            self.inventory.reservable_ratio,
            self.inventory.slicing,
            datapath.ovs_type,
        )
        namespaces.run(
            ["ovs-vsctl", "--timeout=20", *arguments], environment=environment(self._run)
        )
        _install_filters(part, self._run, self.inventory.slicing, datapath)
        self.leaf_queues.sweep()

    def remake_queues(self, ports: Sequence[Port]) -> None:
        """Give these ports their queue trees again. Raises `EmulationError`."""
        ratio, slicing = self.inventory.reservable_ratio, self.inventory.slicing
        arguments = queue_trees(ports, ratio, slicing)
        namespaces.run(
            ["ovs-vsctl", "--timeout=20", *arguments], environment=environment(self._run)
        )
        if slicing and Datapath(self.inventory.datapath) is Datapath.USERSPACE:
            queue_filter.install([p.interface for p in ports], self._run.path / _FILTER_FILE)
        self.leaf_queues.sweep()

    def stop(self) -> None:
        """End wires and hosts; their interfaces go with their namespaces."""
        self.leaf_queues.stop()
        for wire in self.wires.values():
            wire.stop()
        _end_nodes(self._nodes)


def build(
    scenario: Scenario,
    run: RunFolder,
    manifest: Manifest,
    policy: str,
    datapath: Datapath = Datapath.USERSPACE,
) -> EmulatedNetwork:
    """Build all of the scenario in the current namespace, where the private OVS runs.

    Raises `EmulationError`; what was built until then is in the manifest and is
    cleanup's to remove, except the hosts' shells, which end here.
    """
    chosen = next((p for p in POLICIES if p == policy), None)
    if chosen is None:
        raise EmulationError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    plan = plan_network(scenario)
    nodes: dict[str, Node] = {}
    wires: dict[str, AnyWire] = {}
    leaf_queues: LeafQueues | None = None
    try:
        _make_nodes(plan, nodes, manifest)
        _make_links(plan, nodes, datapath)
        _set_up_switch_ports(plan)
        _configure_hosts(plan, nodes, run, datapath)
        leaf_queues = LeafQueues(plan.queue_packets)
        _make_switches(plan, scenario, run, datapath)
        leaf_queues.sweep()
        pids = {host.name: int(nodes[host.name].pid) for host in plan.hosts}
        start_wires(plan, datapath, pids, run, manifest, wires)
        for host in plan.hosts:
            _require_silence(nodes[host.name].waitOutput(), f"configuring host {host.name}")
        await_wires(wires)
        cells = serving_cell_at_start(scenario)
        inventory = describe(
            scenario, plan, run.run_id, run.namespace, chosen, pids, cells, datapath
        )
    except BaseException:
        if leaf_queues is not None:
            leaf_queues.stop()
        for wire in wires.values():
            wire.stop()
        _end_nodes(nodes)
        raise
    return EmulatedNetwork(inventory, plan, wires, leaf_queues, run, nodes)


# -- steps, in order ----------------------------------------------------------


def _make_nodes(plan: Plan, nodes: dict[str, Node], manifest: Manifest) -> None:
    """Switches and hosts; hosts get their sysctls before their first interface."""
    for switch in plan.switches:
        nodes[switch.name] = Bridge(switch.name, dpid=f"{switch.dpid:x}", inNamespace=False)
    for host in plan.hosts:
        node = nodes[host.name] = Host(host.name)
        manifest.record_process(node.pid, f"host {host.name}")
        node.sendCmd(hosts.namespace_sysctls())
    for host in plan.hosts:
        _require_silence(nodes[host.name].waitOutput(), f"sysctls of host {host.name}")


def _make_links(plan: Plan, nodes: Mapping[str, Node], datapath: Datapath) -> None:
    over_wire = NetemPairs if datapath is Datapath.KERNEL else TapPair
    for link in plan.links:
        kind = over_wire if link.over_wire else Link
        right_name, right_interface, right_mac = _right_end(link)
        kind(
            nodes[link.left.switch],
            nodes[right_name],
            port1=link.left.port_no,
            port2=0 if isinstance(link.right, PlannedHost) else link.right.port_no,
            intfName1=link.left.interface,
            intfName2=right_interface,
            addr1=_port_mac(link.left, plan),
            addr2=right_mac or _port_mac(link.right, plan),
            # Up is set later, for all at once.
            params1={"up": None},
            params2={"up": None},
        )


def _right_end(link: PlannedLink) -> tuple[str, str, str | None]:
    if isinstance(link.right, PlannedHost):
        return link.right.name, link.right.interface, link.right.mac
    return link.right.switch, link.right.interface, None


def _port_mac(port: Any, plan: Plan) -> str:
    """Deterministic, and none of a host's (02:00:00:00:...)."""
    dpid = next(s.dpid for s in plan.switches if s.name == port.switch)
    number = port.port_no
    return f"02:00:{dpid >> 8:02x}:{dpid & 0xFF:02x}:{number >> 8:02x}:{number & 0xFF:02x}"


def _set_up_switch_ports(plan: Plan) -> None:
    """Queue lengths before OVS makes the classes: a first leaf takes the length it finds then."""
    lines = [
        f"link set dev {name} txqueuelen {packets}" for name, packets in plan.queue_packets.items()
    ]
    lines += [f"link set dev {port.interface} up" for port in plan.ports]
    namespaces.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")


def _configure_hosts(
    plan: Plan, nodes: Mapping[str, Node], run: RunFolder, datapath: Datapath
) -> None:
    """Start each host's configuration without waiting; `build` collects what they say."""
    folder = run.path / "hosts"
    folder.mkdir(exist_ok=True)
    on_taps = {
        link.right.name
        for link in plan.links
        if datapath is Datapath.USERSPACE and link.over_wire and isinstance(link.right, PlannedHost)
    }
    for host in plan.hosts:
        batch_file = folder / f"{host.name}.ip"
        batch_file.write_text(hosts.ip_batch(host))
        words = hosts.configuration(
            host, batch_file, host.name in on_taps, datapath is Datapath.KERNEL
        )
        nodes[host.name].sendCmd(words)


def _make_switches(plan: Plan, scenario: Scenario, run: RunFolder, datapath: Datapath) -> None:
    ratio, slicing = scenario.reservable_ratio, scenario.slicing
    if datapath is Datapath.USERSPACE:
        calls = list(transactions_in_order(plan, OPENFLOW_TCP_PORT, ratio, slicing))
    else:
        calls = [transaction(plan, OPENFLOW_TCP_PORT, ratio, slicing, datapath.ovs_type)]
    if scenario.shapes_radio:
        calls[-1] += hands_off([p for p in plan.ports if p.role is PortRole.USER])
    try:
        for arguments in calls:
            words = ["ovs-vsctl", "--timeout=20", *arguments]
            namespaces.run(words, environment=environment(run))
    except EmulationError as error:
        raise SwitchError(f"bridges were not made: {error}") from error
    _install_filters(plan, run, slicing, datapath)


def _install_filters(plan: Plan, run: RunFolder, slicing: bool, datapath: Datapath) -> None:
    """The kernel datapath honours `set_queue` by itself."""
    if slicing and datapath is Datapath.USERSPACE:
        queue_filter.install(list(plan.queue_packets), run.path / _FILTER_FILE)


def _end_nodes(nodes: Mapping[str, Node]) -> None:
    """Hang up all shells first, then wait for them: waiting one by one adds up."""
    for node in nodes.values():
        if node.shell:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.shell.pid, signal.SIGHUP)
    for node in nodes.values():
        node.terminate()


def _require_silence(words: str | None, what: str) -> None:
    """Commands in hosts say nothing when all is well."""
    if words is not None and words.strip():
        raise EmulationError(f"{what}: {words.strip()[:500]}")
