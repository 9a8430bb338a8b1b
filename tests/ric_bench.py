"""A running RIC for tests: namespaces for its hosts, its process, a client, its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests

from controller.contracts import rpc
from controller.contracts.addressing import CENTRE_IP, CENTRE_UDP_PORT, edge_ip
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from controller.ric.netns import make_in_namespace
from controller.twins.report_values import rows_of, samples_of
from controller.twins.series import Query, answer
from tests.conftest import free_port
from tests.ric_inventory import ric_inventory
from tests.sample_aggregates import datagram_of, sample_aggregate, slice_demand
from tests.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[1]
HOSTS = ("centre", "edge1", "edge2")
XAPP_PORT = 8080


def command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@contextlib.contextmanager
def host_namespaces(prefix: str) -> Iterator[dict[str, int]]:
    """Host name -> pid of a process in its namespace; the centre has the edges' addresses too."""
    names = {host: f"{prefix}-{host}" for host in HOSTS}
    residents: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for host, name in names.items():
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")
            residents[host] = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"])
        for ip in (CENTRE_IP, edge_ip(0), edge_ip(1)):
            command("ip", "-n", names["centre"], "addr", "add", f"{ip}/32", "dev", "lo")
        for process in residents.values():
            wait_until(lambda p=process: _program_of(p.pid) == "sleep", 5)  # type: ignore[misc]
        yield {host: process.pid for host, process in residents.items()}
    finally:
        for process in residents.values():
            process.kill()
            process.wait()
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _program_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@dataclass
class Neighbours:
    """The emulation and one local controller: they answer on their sockets and remember."""

    run: RunFolder
    twins: dict[str, Any] = field(default_factory=dict)
    heard: list[tuple[str, str, str]] = field(default_factory=list)
    reports: dict[str, list[Any]] = field(default_factory=dict)
    """What `series` and `rows` are answered from."""

    @contextlib.contextmanager
    def serving(self) -> Iterator[Neighbours]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            servers = asyncio.run_coroutine_threadsafe(self._serve(), loop).result(5)
            yield self
        finally:
            for server in servers:
                loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self) -> list[asyncio.Server]:
        def hears(who: str) -> rpc.Handler:
            return lambda ue_id, cell_id: self.heard.append((who, ue_id, cell_id))

        emulation = await rpc.serve(self.run.emulation_socket, {"attached": hears("emulation")})
        edge: dict[str, rpc.Handler] = {
            "attached": hears("edge1"),
            "twins": lambda: [
                {"kind": "user", "id": ue_id, "version": 3, "age_ms": 12.5} for ue_id in self.twins
            ],
            "twin": self._twin,
            "history": lambda ue_id, last: [self._twin(ue_id)][-last:],
            "configure": lambda overrides: {"users_told": len(overrides)},
            "spending": self._spending,
            "clusters": lambda **_: {"ue1": "ue1", "ue2": "ue2", "ue3": "ue1"},
            "series": self._series,
            "rows": self._rows,
        }
        local = await rpc.serve(self.run.local_controller_socket("edge1"), edge)
        return [emulation, local]

    def _spending(self) -> dict[str, Any]:
        """Of a local controller with two users whose reports of 700 B come each half second."""
        datagrams = int(2 * time.monotonic())
        users = [
            {
                "ue_id": ue_id,
                "cell_id": "ap1",
                "datagrams": datagrams,
                "wire_bytes": 700 * datagrams,
                "demand_kbps": {str(slice_id): 1000.0},
                "growth_kbps_per_s": {str(slice_id): growth},
                "observed_s": 60.0,
                "loss_ratio": {},
                "handover_margin_db": 20.0,
                "is_moving": False,
            }
            for ue_id, slice_id, growth in (("ue1", 1, 10.0), ("ue2", 2, 400.0))
        ]
        return {
            "edge": "edge1",
            "pid": os.getpid(),
            "at_ns": time.monotonic_ns(),
            "processor_s": time.process_time(),
            "report_datagrams": 2 * datagrams,
            "report_bytes": 1400 * datagrams,
            "order_bytes": 0,
            "aggregate_bytes": 100 * datagrams,
            "move_bytes": 0,
            "users": users,
        }

    def _series(self, ue_id: str, query: dict[str, Any]) -> dict[str, Any]:
        asked = Query(**query)
        samples = samples_of(self.reports.get(ue_id, []), asked.attribute)
        return {"points": answer(samples, asked), "recorded": bool(samples), "known": []}

    def _rows(self, ue_id: str, since_ns: int) -> list[dict[str, Any]]:
        inventory = Inventory.load(self.run.inventory)
        return [
            asdict(row)
            for report in self.reports.get(ue_id, [])
            for row in rows_of(report, inventory.slices)
            if report["measured_at_ns"] >= since_ns
        ]

    def _twin(self, ue_id: str) -> Any:
        if ue_id not in self.twins:
            raise LookupError(f"no twin of {ue_id!r} at edge1")
        return self.twins[ue_id]


@dataclass
class RunningRic:
    """One RIC process and a session with its API."""

    run: RunFolder
    inventory: Inventory
    process: subprocess.Popen[str]
    session: requests.Session

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.inventory.northbound_tcp_port}"

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.session.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url = f"{self.url}/api/v1/{path}"
        return self.session.request(method, url, timeout=20, **arguments)

    def status(self) -> Any:
        return rpc.call(self.run.ric_socket, "status")

    def send_aggregate(self, edge_index: int = 0, **changes: Any) -> dict[str, Any]:
        """As the local controller of `ap1` sends one now; returns its content."""
        now_ns = time.time_ns() // 1000 * 1000  # microseconds are sent
        content = {
            "window": now_ns // 1_000_000,
            "period_ms": 1,
            "completed_at_ns": now_ns,
            "sent_at_ns": now_ns,
            "users_reported": 1,
            "users_expected": 1,
            "slices": [
                slice_demand(1, 11_000.0, goodput_kbps=8000.0, loss_ratio=0.2, owd_p95_ms=30.0)
            ],
            **changes,
        }
        aggregate = sample_aggregate(**content)
        self.send_datagram(datagram_of(aggregate, cells=self.inventory.cells), edge_index)
        return aggregate.model_dump(mode="json")

    def send_datagram(self, datagram: bytes, edge_index: int = 0) -> None:
        """From the address of that edge to the centre."""
        centre = self.inventory.host("centre").netns_path
        sender = make_in_namespace(centre, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with sender:
            sender.bind((edge_ip(edge_index), 0))
            sender.sendto(datagram, (CENTRE_IP, CENTRE_UDP_PORT))

    def stop(self) -> tuple[int, str]:
        """Ends it like the supervisor does; exit status and what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=15)
        return self.process.returncode, output


def write_run(folder: Path, pids: Mapping[str, int], **changes: Any) -> tuple[RunFolder, Inventory]:
    """A run folder with an inventory whose hosts live in these processes' namespaces."""
    inventory = ric_inventory(northbound_tcp_port=free_port(), run_id=folder.name, **changes)
    hosts = [
        host.model_copy(update={"pid": pids.get(host.name, os.getpid())})
        for host in inventory.hosts
    ]
    inventory = inventory.model_copy(update={"hosts": hosts})
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder)
    run.inventory.write_text(inventory.model_dump_json())
    return run, inventory


def start_ric(
    run: RunFolder, inventory: Inventory, environment: Mapping[str, str] | None = None
) -> RunningRic:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ric_process", str(run.path)],
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    session = requests.Session()
    session.trust_env = False
    return RunningRic(run, inventory, process, session)


@contextlib.contextmanager
def running_ric(
    run: RunFolder, inventory: Inventory, environment: Mapping[str, str] | None = None
) -> Iterator[RunningRic]:
    """Ready, with the operator's token in the session."""
    ric = start_ric(run, inventory, environment)
    try:
        wait_until(lambda: ric.process.poll() is not None or is_ready(run), 20)
        assert ric.process.poll() is None, ric.stop()[1]
        ric.session.headers["Authorization"] = f"Bearer {run.token.read_text().strip()}"
        yield ric
    finally:
        ric.stop()
        ric.session.close()


def is_ready(run: RunFolder) -> bool:
    try:
        return bool(rpc.call(run.ric_socket, "status")["ready"])
    except rpc.RpcError:
        return False


def in_host(pid: int, words: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
    )


XAPP_SOURCE = """
import json, os, sys, urllib.request

def call(method, path, body=None):
    request = urllib.request.Request(
        os.environ["HOLON_URL"] + "/api/v1/" + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + os.environ["HOLON_TOKEN"],
                 "Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request)

config = json.loads(os.environ["HOLON_XAPP_CONFIG"])
name = os.environ["HOLON_XAPP_NAME"]
print("config", json.dumps(config, sort_keys=True))
print("namespace", os.readlink("/proc/self/ns/net"))
"""
"""What every test xApp starts with; no SDK, so that the API alone is tested."""
LISTENING = """
call("POST", f"xapps/{name}/ready")
with call("GET", "stream?kind=cell") as stream:
    for line in stream:
        print("saw", json.loads(line)["trace_id"], flush=True)
"""


def write_xapp(
    folder: Path, source: str, prepare: Callable[[dict[str, Any]], None] | None = None
) -> Path:
    """An xApp's folder whose program is `XAPP_SOURCE` and `source`."""
    folder.mkdir(parents=True)
    image = {"registry": "none", "name": folder.name, "tag": "1"}
    document: dict[str, Any] = {
        "xapp_name": folder.name,
        "version": "1.2.3",
        "containers": [{"name": folder.name, "image": image}],
        "holon": {"entry_point": "xapp.py", "config": {"margin": 0.1, "forecaster": "x"}},
    }
    if prepare is not None:
        prepare(document)
    (folder / "config-file.json").write_text(json.dumps(document))
    (folder / "xapp.py").write_text(XAPP_SOURCE + source)
    return folder
