"""A private Open vSwitch: own ovsdb-server, own ovs-vswitchd, own folder, own namespace.

Nothing of the machine's Open vSwitch is read or changed.  The userspace
datapath forwards in vswitchd's main thread; a kernel datapath belongs to the
namespace it was made in, so the run has its own and it ends with the namespace.
What the bridges look like is `network.py`'s work, what flows they carry is the
controller's.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.contracts.run_folder import RunFolder
from topologies import packet_sockets
from topologies.database_door import DatabaseDoor
from topologies.errors import CommandError, RequirementError, SwitchError
from topologies.manifest import RUN_ID_VARIABLE, Manifest
from topologies.namespaces import inside, named_path, run, same
from topologies.processes import is_running
from topologies.wire_watch import WireWatch

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_STOP_TIMEOUT_S = 3.0
_NICENESS = -10
"""What Open vSwitch's own start script gives its daemons."""
_WMEM_DEFAULT = Path("/proc/sys/net/core/wmem_default")
_TEST_FRAME = "0200000000fd" + "0200000000fc" + "88b5" + "00" * 46
"""Local experimental ethertype, addressed to nobody."""

_DOORS = 8
"""vswitchd begins anywhere among its databases; this often at the door."""

MEGAFLOW_LIMIT = 20_000
"""Cached flows of all bridges: a host that never sends two frames alike makes one a frame, and
each holds memory for ten seconds. A scenario of a thousand users needs a few thousand."""


@dataclass
class Daemon:
    """One of the two processes. `restarts` counts those after the first start."""

    name: str
    pid: int = 0
    restarts: int = 0

    @property
    def alive(self) -> bool:
        return self.pid > 0 and is_running(self.pid)


class PrivateOvs:
    """The run's switch processes.

    Made in the machine's namespace, started and used inside the run's.
    """

    def __init__(
        self, run_folder: RunFolder, manifest: Manifest, with_kernel_datapath: bool = False
    ) -> None:
        self._run = run_folder
        self._with_kernel_datapath = with_kernel_datapath
        self._manifest = manifest
        self._database = Daemon("ovsdb-server")
        self._switch = Daemon("ovs-vswitchd")
        self._door = DatabaseDoor(self._door_socket, run_folder.ovsdb_socket)
        self.wire_watch = WireWatch(self.appctl)
        self._send_buffer_bytes = packet_sockets.LEAST_SEND_BUFFER_BYTES
        self._machine_namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    # -- life ---------------------------------------------------------------

    def start(self) -> None:
        """Start both daemons on an empty database. Raises `SwitchError`."""
        self._require_namespace()
        for folder in (self._run.ovs, self._run.logs):
            folder.mkdir(parents=True, exist_ok=True)
        if not SCHEMA.exists():
            raise RequirementError(f"{SCHEMA} is missing: apt-get install openvswitch-switch")
        database = self._run.ovs / "conf.db"
        self._command("ovsdb-tool", "create", str(database), str(SCHEMA))
        self._start_database(database)
        self._door.open()
        self._command("ovs-vsctl", "--no-wait", "init")
        # Two threads next to the forwarding one: more only fight it for two cores.
        self._command(
            "ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".",
            "other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1",
            f"other_config:flow-limit={MEGAFLOW_LIMIT}",
            f"external_ids:system-id={self._run.namespace}",
        )  # fmt: skip
        self._start_switch()

    def stop(self) -> None:
        """End both; taps of bridges vanish with vswitchd. Not to be used afterwards."""
        for daemon in (self._switch, self._database):
            self._end(daemon)
        self._door.close()
        if self._machine_namespace >= 0:
            os.close(self._machine_namespace)
            self._machine_namespace = -1

    def restart_vswitchd(self, abruptly: bool = False) -> None:
        """End vswitchd (`abruptly`: by SIGKILL) and start it again.

        Ports, queues and the controller's target come back from the database;
        flows, groups and meters are lost and are the controller's to restore.
        """
        self._end(self._switch, signal.SIGKILL if abruptly else signal.SIGTERM)
        self._start_switch()
        self._switch.restarts += 1
        self.enlarge_send_buffers(self._send_buffer_bytes)

    def restart_dead(self) -> list[str]:
        """Start again what died; returns the names. The database file survives.

        Detours wait meanwhile: vswitchd stands still while it takes a new database over.
        """
        restarted = []
        if self._database.pid and not self._database.alive:
            if self._switch.alive:
                self.wire_watch.hold(ready=self._has_taken_over)
            self._start_database(self._run.ovs / "conf.db")
            self._database.restarts += 1
            restarted.append(self._database.name)
        if self._switch.pid and not self._switch.alive:
            self.restart_vswitchd()
            restarted.append(self._switch.name)
        return restarted

    def _has_taken_over(self) -> bool:
        """Has vswitchd reconfigured itself from the database that was started last?"""
        mark = f"external_ids:database-restarts={self._database.restarts}"
        try:
            self._command("ovs-vsctl", "--timeout=1", "set", "Open_vSwitch", ".", mark)
        except SwitchError:
            return False
        return True

    @property
    def vswitchd_pid(self) -> int:
        return self._switch.pid

    def status(self) -> list[dict[str, object]]:
        return [
            {"name": d.name, "pid": d.pid, "alive": d.alive, "restarts": d.restarts}
            for d in (self._database, self._switch)
        ]

    # -- send buffer --------------------------------------------------------

    def enlarge_send_buffers(
        self, wanted_bytes: int = packet_sockets.LEAST_SEND_BUFFER_BYTES
    ) -> int:
        """Make room in vswitchd's sending socket (see packet_sockets.py); bytes granted.

        Needs a bridge with a port, because the socket exists from the first send on.
        The kernel datapath sends without a socket: nothing to do, 0 granted.
        """
        if self._with_kernel_datapath:
            return 0
        self._send_buffer_bytes = max(wanted_bytes, packet_sockets.LEAST_SEND_BUFFER_BYTES)
        if packet_sockets.can_duplicate():
            self._send_test_frame()
            sockets = packet_sockets.enlarge(self._switch.pid, self._send_buffer_bytes)
            return min(s.granted_send_bytes for s in sockets if s.sends)
        return self._reopen_with_large_default()

    def _send_test_frame(self) -> None:
        for bridge in self._lines("ovs-vsctl", "list-br"):
            ports = self._lines("ovs-vsctl", "list-ports", bridge)
            if ports:
                words = f"in_port=controller packet={_TEST_FRAME} actions=output:{ports[0]}"
                self.ofctl("packet-out", bridge, words)
                return
        raise SwitchError("no bridge has a port: build the network before enlarging buffers")

    def _reopen_with_large_default(self) -> int:
        """Without pidfd_getfd: the machine's default, large while the socket is opened."""
        previous = self._require_writable_default()
        self._manifest.record_sysctl(_WMEM_DEFAULT, previous)
        self._write_machine_sysctl(_WMEM_DEFAULT, str(self._send_buffer_bytes))
        try:
            self._end(self._switch)
            self._start_switch()
            self._send_test_frame()
        finally:
            self._write_machine_sysctl(_WMEM_DEFAULT, previous)
        return self._send_buffer_bytes

    def _require_writable_default(self) -> str:
        """The machine's value; asked before it is recorded, so that nothing is to be put back."""
        with inside(f"/proc/self/fd/{self._machine_namespace}"):
            if not os.access(_WMEM_DEFAULT, os.W_OK):
                raise RequirementError(
                    f"{_WMEM_DEFAULT} is read-only and this kernel lends no sockets (pidfd_getfd): "
                    "one full queue would starve every port; use Linux 5.6 or newer, or a machine "
                    "(not a container) where root may write it"
                )
            return _WMEM_DEFAULT.read_text().strip()

    def _write_machine_sysctl(self, path: Path, value: str) -> None:
        """net.core defaults can be written in the machine's first namespace only."""
        with inside(f"/proc/self/fd/{self._machine_namespace}"):
            path.write_text(value)

    # -- commands -----------------------------------------------------------

    def vsctl(self, arguments: Sequence[str]) -> str:
        """Run ovs-vsctl and wait until vswitchd has taken the change over."""
        return self._command("ovs-vsctl", "--timeout=10", *arguments)

    def ofctl(self, *arguments: str) -> str:
        return self._command("ovs-ofctl", "-O", "OpenFlow13", *arguments)

    def appctl(self, *arguments: str) -> str:
        return self._command("ovs-appctl", "--timeout=10", "-t", self._control_socket(), *arguments)

    def hold_wires(self, bridges: Sequence[str], towards: Sequence[str]) -> None:
        """While bridges are made anew, nobody takes a detour over one that has no rules yet.

        `towards`: the interfaces of other bridges that lead to them.
        """

        def have_rules() -> bool:
            shown = [self.ofctl("dump-aggregate", name) for name in bridges]
            return all(int(words.rpartition("flow_count=")[2]) > 0 for words in shown)

        self.wire_watch.hold(towards, have_rules)

    def _control_socket(self) -> str:
        return str(self._run.ovs / f"{self._switch.name}.{self._switch.pid}.ctl")

    def _lines(self, *command: str) -> list[str]:
        return self._command(*command).split()

    def _command(self, *command: str) -> str:
        try:
            return run(command, environment=environment(self._run))
        except CommandError as error:
            raise SwitchError(str(error)) from error

    # -- processes ----------------------------------------------------------

    def _require_namespace(self) -> None:
        if not same("/proc/thread-self/ns/net", named_path(self._run.namespace)):
            raise SwitchError(f"start Open vSwitch inside namespace {self._run.namespace}")

    def _start_database(self, database: Path) -> None:
        self._launch(self._database, str(database), f"--remote=punix:{self._run.ovsdb_socket}")

    def _start_switch(self) -> None:
        options = ["--disable-system-route"]
        if not self._with_kernel_datapath:
            options.append("--disable-system")
        # With several to choose from it tries the next at once, else after a second; the last
        # is there for the case that the door is gone with its process.
        databases = [f"unix:{self._door_socket}"] * _DOORS + [f"unix:{self._run.ovsdb_socket}"]
        self._launch(self._switch, ",".join(databases), *options)

    @property
    def _door_socket(self) -> Path:
        return self._run.ovs / "door.sock"

    def _launch(self, daemon: Daemon, *arguments: str) -> None:
        """Start detached: the command returns once the daemon serves its first round."""
        pidfile = self._run.ovs / f"{daemon.name}.pid"
        log = self._run.logs / f"{daemon.name}.log"
        self._command(
            "nice", f"--adjustment={_NICENESS}", daemon.name, *arguments,
            "--detach", "--no-chdir", f"--pidfile={pidfile}", f"--log-file={log}",
            "-vconsole:off", "-vsyslog:off", "-vfile:info",
        )  # fmt: skip
        daemon.pid = int(pidfile.read_text())
        self._manifest.record_process(daemon.pid, daemon.name)

    def _end(self, daemon: Daemon, first_signal: int = signal.SIGTERM) -> None:
        """Signal it and wait; a daemon that ignores the signal is killed."""
        if not daemon.alive:
            return
        pidfd = os.pidfd_open(daemon.pid)
        try:
            for number in (first_signal, signal.SIGKILL):
                signal.pidfd_send_signal(pidfd, number)
                if select.select([pidfd], [], [], _STOP_TIMEOUT_S)[0]:
                    return
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)
        raise SwitchError(f"{daemon.name} (pid {daemon.pid}) does not end")


def environment(run_folder: RunFolder) -> dict[str, str]:
    """Environment in which ovs-vsctl, ovs-ofctl and friends speak to the run's switch."""
    return {
        **os.environ,
        RUN_ID_VARIABLE: run_folder.run_id,
        "OVS_RUNDIR": str(run_folder.ovs),
        "OVS_DBDIR": str(run_folder.ovs),
        "OVS_LOGDIR": str(run_folder.logs),
    }
