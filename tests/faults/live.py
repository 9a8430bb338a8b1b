"""A running testbed under faults: what is looked at before, during and after each."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from tests.conftest import UP_TIMEOUT_S, CommandLine, free_port
from tests.waiting import wait_until
from topologies.namespaces import named_path, run_in
from topologies.path_probe import PathProbe
from topologies.wire_watch import sessions

SETTLE_S = 20.0
_probe_numbers = itertools.count()
CONTROL_SLICE = 2
_GENERATION = re.compile(r"cookie=0x(486f[0-9a-f]{4})[0-9a-f]{8}")


@dataclass(frozen=True)
class Live:
    """`ring` under policy static, without handovers: nothing changes by itself, so every
    difference is a fault's."""

    commands: CommandLine
    run: RunFolder
    inventory: Inventory

    # -- acting ---------------------------------------------------------------

    def pid(self, name: str) -> int:
        found: int = next(p["pid"] for p in self.status()["processes"] if p["name"] == name)
        return found

    def signal(self, name: str, number: signal.Signals) -> int:
        """The pid that got it."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def in_namespace(self, *command: str) -> str:
        return run_in(named_path(self.run.namespace), command)

    def bridge(self, switch: str) -> str:
        return f"unix:{self.run.ovs / (switch + '.mgmt')}"

    def ofctl(self, *words: str) -> str:
        return self._ovs("ovs-ofctl", "-O", "OpenFlow13", *words)

    def vsctl(self, *words: str) -> str:
        return self._ovs("ovs-vsctl", "--timeout=10", *words)

    def _ovs(self, *command: str) -> str:
        environment = {**os.environ, "OVS_RUNDIR": str(self.run.ovs)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def probe(self, ue_id: str) -> PathProbe:
        """Between the user and the cloud in the real-time slice; not started yet."""
        user = self.inventory.user(ue_id)
        session = next(s for s in user.sessions if s.slice_id == CONTROL_SLICE)
        service = next(s for s in self.inventory.services if s.slice_id == CONTROL_SLICE)
        hosts = self.inventory.host(user.host), self.inventory.host(service.host)
        # A port of its own: two users' probes meet at one address of the cloud.
        port = 7900 + next(_probe_numbers) % 90
        return PathProbe(hosts[0], session.ip, hosts[1], service.address, 400, port)

    # -- looking --------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = rpc.call(self.run.emulation_socket, "status", 10.0)
        return answer

    def ric(self) -> dict[str, Any]:
        """Its status; empty while it does not answer."""
        try:
            answer: dict[str, Any] = rpc.call(self.run.ric_socket, "status", 1.0)
        except rpc.RpcError:
            return {}
        return answer

    def ryu(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = rpc.call(self.run.ryu_socket, "status", 1.0)
        except rpc.RpcError:
            return {}
        return answer

    def connected(self) -> bool:
        """The RIC works and every switch has its controller."""
        ric = self.ric()
        return bool(ric.get("ready")) and set(ric["connected"]) == {
            s.name for s in self.inventory.switches
        }

    def watched(self) -> bool:
        """BFD has both ends of every wire that it watches. Asked of vswitchd, because its
        database forgets the states when it restarts."""
        pid = (self.run.ovs / "ovs-vswitchd.pid").read_text().strip()
        control = str(self.run.ovs / f"ovs-vswitchd.{pid}.ctl")
        shown = self._ovs("ovs-appctl", "--timeout=5", "-t", control, "bfd/show")
        up = sessions(shown)
        return len(up) > 0 and all(up.values())

    def settled(self) -> bool:
        """All processes live, every switch has its controller, every wire its BFD session."""
        status = self.status()
        alive = all(p["alive"] for p in status["processes"])
        return alive and not status["wires_held"] and self.connected() and self.watched()

    def program(self) -> dict[str, list[str]]:
        """Flows (without generation), groups, meters and queues, as Open vSwitch shows them."""
        found = {}
        for switch in (s.name for s in self.inventory.switches):
            bridge = self.bridge(switch)
            flows = self.ofctl("--no-stats", "dump-flows", bridge).splitlines()[1:]
            assert not [f for f in flows if "timeout" in f], "a flow would expire"
            found[f"{switch} flows"] = sorted(_GENERATION.sub(r"\1", f.strip()) for f in flows)
            for what in ("groups", "meters"):
                lines = self.ofctl(f"dump-{what}", bridge).splitlines()[1:]
                found[f"{switch} {what}"] = sorted(line.strip() for line in lines)
        for table, columns in (("Queue", "other_config"), ("Controller", "target")):
            rows = self.vsctl(f"--columns={columns}", "list", table).split("\n\n")
            found[table] = sorted(row.strip() for row in rows)
        return found

    def differences(self, before: dict[str, list[str]]) -> list[str]:
        """What is not as it was, one line each; so is an Open vSwitch that does not answer."""
        try:
            now = self.program()
        except AssertionError as error:
            return [str(error)]
        return [
            f"{what}: {sign} {line}"
            for what, lines in before.items()
            for sign, ours, theirs in (("-", lines, now[what]), ("+", now[what], lines))
            for line in (Counter(ours) - Counter(theirs)).elements()
        ]

    def await_as_before(self, before: dict[str, list[str]], timeout_s: float) -> None:
        """AssertionError with the differences after `timeout_s`."""
        try:
            wait_until(lambda: not self.differences(before), timeout_s)
        except AssertionError:
            raise AssertionError("\n".join(self.differences(before)[:20])) from None

    def interfaces(self) -> set[str]:
        links = json.loads(self.in_namespace("ip", "-json", "link"))
        return {link["ifname"] for link in links}

    def processes(self) -> list[str]:
        """Command lines of everything that carries the run's id."""
        wanted = f"HOLON_RUN_ID={self.run.run_id}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    found.append(b" ".join(words[:4]).decode())
            except OSError:
                continue
        return sorted(found)

    def leaked_frames(self) -> int:
        """Frames that reached a host of another slice, since traffic began."""
        leaks = rpc.call(self.run.path / "receivers.sock", "leaks", 5.0)
        return sum(n for leak in leaks for n in leak["frames_by_slice"].values())

    def audit(self) -> dict[Path, list[str]]:
        """Every audit record of the RIC, and of what the emulation repaired, by file."""
        files = (self.run.results / "audit.jsonl", self.run.results / "repairs.jsonl")
        return {f: f.read_text().splitlines() if f.exists() else [] for f in files}


@contextmanager
def live_testbed(commands: CommandLine, *arguments: str) -> Iterator[Live]:
    port = free_port()
    commands.output(
        "up", "ring", "--policy", "static", "--set", f"northbound_port={port}",
        "--set", "handover.hysteresis_db=15", "--set", "handover.a3_offset_db=15", *arguments,
        timeout_s=UP_TIMEOUT_S,
    )  # fmt: skip
    run = RunFolder((commands.runs_root / "current").resolve())
    try:
        live = Live(commands, run, Inventory.load(run.inventory))
        wait_until(live.settled, SETTLE_S)
        yield live
    finally:
        commands.output("down")
