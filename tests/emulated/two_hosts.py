"""Two network namespaces joined by a veth pair: the smallest place for real packets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from controller.contracts.inventory import Host, Inventory
from controller.contracts.run_folder import RunFolder
from tests.sample_inventory import sample_inventory
from topologies.scenario.schema import Scenario
from topologies.supervisor import Supervisor
from topologies.traffic.leaks import addresses_of


def command(line: str) -> None:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr.strip()}")


@dataclass
class TwoHosts:
    run: RunFolder
    scenario: Scenario
    inventory: Inventory
    user_pid: int
    server_pid: int
    supervisor: Supervisor

    def in_users(self, line: str) -> None:
        command(f"nsenter --net=/proc/{self.user_pid}/ns/net {line}")

    def in_servers(self, line: str) -> None:
        command(f"nsenter --net=/proc/{self.server_pid}/ns/net {line}")


def _namespace() -> subprocess.Popen[bytes]:
    """A process in a fresh network namespace, whose life holds it."""
    holder = subprocess.Popen(
        [
            "unshare",
            "--net",
            sys.executable,
            "-c",
            "import signal; print(flush=True); signal.pause()",
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


@contextmanager
def two_hosts(folder: Path, scenario: Scenario) -> Iterator[TwoHosts]:
    """The pair with all addresses of the sample inventory; everything is gone afterwards."""
    users, servers = _namespace(), _namespace()
    inventory = sample_inventory(users.pid, servers.pid, shared=True)
    run = RunFolder(folder)
    run.logs.mkdir(parents=True)
    run.scenario.write_bytes(
        orjson.dumps({"scenario": scenario.model_dump(mode="json"), "policy": "static"})
    )
    run.inventory.write_text(inventory.model_dump_json())
    supervisor = Supervisor(run.run_id, run.logs, lambda pid, name: None)
    pair = TwoHosts(run, scenario, inventory, users.pid, servers.pid, supervisor)
    try:
        command(
            f"ip link add users0 netns {users.pid} type veth peer name servers0 netns {servers.pid}"
        )
        for enter, interface, mac, ours, theirs in (
            (
                pair.in_users,
                "users0",
                "02:00:00:00:00:00",
                _side(inventory, users.pid),
                servers.pid,
            ),
            (
                pair.in_servers,
                "servers0",
                "02:00:00:00:00:01",
                _side(inventory, servers.pid),
                users.pid,
            ),
        ):
            _configure(enter, interface, mac, inventory, ours, _side(inventory, theirs))
        yield pair
    finally:
        pair.supervisor.stop(list(pair.supervisor.children))
        for holder in (users, servers):
            holder.kill()
            holder.wait()
            if holder.stdout is not None:
                holder.stdout.close()


def _side(inventory: Inventory, pid: int) -> list[Host]:
    return [h for h in inventory.hosts if h.pid == pid]


def _configure(
    enter: Callable[[str], None],
    interface: str,
    mac: str,
    inventory: Inventory,
    ours: list[Host],
    theirs: list[Host],
) -> None:
    enter("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
    enter(f"ip link set {interface} address {mac}")
    enter(f"ip link set {interface} up")
    for ip in sorted({a.ip for host in ours for a in addresses_of(host, inventory)}):
        enter(f"ip addr add {ip}/32 dev {interface}")
    for ip in sorted({a.ip for host in theirs for a in addresses_of(host, inventory)}):
        enter(f"ip route add {ip}/32 dev {interface}")
        enter(f"ip neigh add {ip} lladdr {theirs[0].mac} dev {interface} nud permanent")
