"""VL1-VL3 with real packets: agents in the users' namespace, the local controller in the edge's.

Two namespaces and a veth pair stand for the network; a socket at the centre's
address and `ric.sock` stand where the RIC is.  Traffic is the testbed's own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from controller.contracts import aggregate_wire, rpc
from controller.contracts.addressing import (
    CENTRE_IP,
    CENTRE_UDP_PORT,
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
    edge_ip,
    session_ip,
)
from controller.contracts.inventory import Cell, HandoverConfig, Inventory
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_messages import CellAggregate, UserReport
from tests.emulated.two_hosts import TwoHosts, two_hosts
from tests.sample_inventory import sample_scenario
from tests.sample_reports import encoded, sample_report
from tests.waiting import wait_until
from topologies.namespaces import socket_in
from topologies.radio_state import RadioState
from topologies.traffic.engine import TrafficEngine
from topologies.user_agents import control_socket

PERIOD_MS = 200
TTT_MS = 300
STREAM_KBPS, COMMANDS_KBPS, DOWNLOAD_KBPS = 8000.0, 2000.0, 3000.0
PROBE_KBPS = {"ue1": 50 * 142 * 8 / 1000, "ue2": 100 * 142 * 8 / 1000}


def three_cells(inventory: Inventory) -> Inventory:
    """`ap1` and `ap2` belong to edge1, `far` to edge2, whose controller does not run here."""
    (cell,) = inventory.cells
    edge = inventory.host("edge1")
    away = [edge.addresses[0].model_copy(update={"slice_id": 0, "ip": edge_ip(1)})]
    return inventory.model_copy(
        update={
            "cells": [
                cell,
                cell.model_copy(update={"cell_id": "ap2"}),
                cell.model_copy(update={"cell_id": "far", "edge": "edge2"}),
            ],
            "hosts": [
                *inventory.hosts,
                edge.model_copy(update={"name": "edge2", "addresses": away}),
            ],
            "twins": inventory.twins.model_copy(
                update={"report_period_ms": PERIOD_MS, "history_length": 8}
            ),
            "handover": HandoverConfig(hysteresis_db=3.0, time_to_trigger_ms=TTT_MS),
        }
    )


class Radio:
    """Keeps the radio table fresh, as the emulation does."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self.state = RadioState.create(run.radio_state, inventory)

    def write(self, user: int, serving: int, *rsrp_dbm: float) -> None:
        self.state.write(
            user,
            position_m=(10.0, 20.0),
            speed_mps=1.5,
            serving_index=serving,
            rsrp_dbm=rsrp_dbm,
            updated_at_ns=time.time_ns(),
        )


class Centre:
    """The RIC's place: collects aggregates, refuses every `decide`."""

    def __init__(self, run: RunFolder, netns_path: str, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self.aggregates: list[CellAggregate] = []
        self.sources: set[str] = set()
        self.requests: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._socket = socket_in(netns_path, socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((CENTRE_IP, CENTRE_UDP_PORT))
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._collect)
        self._thread = threading.Thread(target=self._run, args=(run.ric_socket,))
        self._thread.start()

    def _run(self, ric_socket: Path) -> None:
        server = self._loop.run_until_complete(rpc.serve(ric_socket, {"decide": self._decide}))
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    def _collect(self) -> None:
        payload, (source, _) = self._socket.recvfrom(65_536)
        self.sources.add(source)
        self.aggregates += aggregate_wire.decode(payload, self._cells)

    def _decide(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        kept = ("trace_id", "xapp", "action", "target", "parameters", "based_on", "hops_ns")
        return {
            "decision_id": "d1",
            "verdict": "rejected",
            "reason": "the test says no",
            **{key: request[key] for key in kept},
        }

    def of(self, cell_id: str) -> list[CellAggregate]:
        return [a for a in self.aggregates if a.cell_id == cell_id]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._loop.close()


class TwinPath:
    """Everything that runs, and calls to it."""

    def __init__(self, pair: TwoHosts, inventory: Inventory, radio: Radio, centre: Centre) -> None:
        self.pair, self.inventory, self.radio, self.centre = pair, inventory, radio, centre
        self.started_at_ns = 0
        """When the agents answered first."""
        self.first_twins_at_ns = 0

    def local(self, op: str, **arguments: Any) -> Any:
        return rpc.call(self.pair.run.local_controller_socket("edge1"), op, **arguments)

    def agents(self, op: str, **arguments: Any) -> Any:
        return rpc.call(control_socket(self.pair.run), op, **arguments)

    @property
    def users_netns(self) -> str:
        return f"/proc/{self.pair.user_pid}/ns/net"


def answers(call: Callable[[str], Any]) -> bool:
    try:
        call("status")
    except rpc.RpcUnavailable:
        return False
    return True


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinPath]:
    base = sample_scenario().model_dump(mode="json")
    tcp = {
        "name": "files",
        "kind": "tcp",
        "service": "files",
        "users": ["ue1"],
        "demand": {"shape": "constant", "mbps": DOWNLOAD_KBPS / 1000},
    }
    scenario = sample_scenario(traffic=[*base["traffic"], tcp], background=None, bottlenecks=[])
    with two_hosts(tmp_path_factory.mktemp("run") / "holon-t-vl", scenario) as pair:
        # The collector's address is the edge's already; the centre's stands beside the users'.
        pair.in_users(f"ip addr add {CENTRE_IP}/32 dev users0")
        pair.in_servers(f"ip route add {CENTRE_IP}/32 dev servers0")
        pair.in_servers(
            f"ip neigh add {CENTRE_IP} lladdr 02:00:00:00:00:00 dev servers0 nud permanent"
        )
        inventory = three_cells(pair.inventory)
        pair.run.inventory.write_text(inventory.model_dump_json())
        radio = Radio(pair.run, inventory)
        for user in (0, 1):
            radio.write(user, 0, -80.0, -95.0, -95.0)
        engine = TrafficEngine(pair.run, scenario, inventory, pair.supervisor.start)
        engine.prepare()
        centre = Centre(pair.run, f"/proc/{pair.user_pid}/ns/net", inventory.cells)
        made = TwinPath(pair, inventory, radio, centre)
        try:
            edge_netns = f"/proc/{pair.server_pid}/ns/net"
            folder = str(pair.run.path)
            pair.supervisor.start("local-edge1", ["controller.local", folder, "edge1"], edge_netns)
            wait_until(lambda: answers(made.local), 15)
            engine.start()
            pair.supervisor.start("user-agents", ["topologies.user_agents", folder])
            wait_until(lambda: answers(made.agents), 15)
            made.started_at_ns = time.time_ns()
            wait_until(lambda: len(made.local("twins")) == 2, 5)
            made.first_twins_at_ns = time.time_ns()
            yield made
        finally:
            engine.end()
            pair.supervisor.stop(list(pair.supervisor.children))
            centre.close()


def steady(path: TwinPath, cell_id: str, count: int) -> list[CellAggregate]:
    """The next `count` aggregates of the cell, after traffic and agents have settled."""
    start = len(path.centre.of(cell_id)) + 3
    wait_until(lambda: len(path.centre.of(cell_id)) >= start + count, 10 + count)
    return path.centre.of(cell_id)[start : start + count]


def test_every_user_has_a_twin_within_a_second(path: TwinPath) -> None:
    assert (path.first_twins_at_ns - path.started_at_ns) / 1e9 < 1.0
    assert {t["id"] for t in path.local("twins")} == {"ue1", "ue2"}


def test_inter_arrival_on_the_wire_is_the_configured_period(path: TwinPath) -> None:
    wait_until(lambda: min(map(len, path.local("inter_arrivals").values()), default=0) >= 20, 10)
    for ue_id, (_, *intervals_ms) in path.local("inter_arrivals").items():
        # Without the first: a user's first report is sent at once, the others on the grid.
        print(ue_id, np.round(intervals_ms, 1).tolist())
        assert np.mean(intervals_ms) == pytest.approx(PERIOD_MS, rel=0.05), ue_id
        within = np.abs(np.array(intervals_ms) - PERIOD_MS) <= 0.05 * PERIOD_MS
        assert within.mean() >= 0.9, (ue_id, intervals_ms)


def test_aggregates_carry_what_the_senders_offer(path: TwinPath) -> None:
    # iperf3 writes blocks of 128 KiB, one in 350 ms at this rate: TCP needs many windows.
    count = 40
    aggregates = steady(path, "ap1", count)
    assert path.centre.sources == {edge_ip(0)}
    windows = [a.window for a in aggregates]
    assert windows == list(range(windows[0], windows[0] + count))
    assert len({a.trace_id for a in aggregates}) == count
    assert all(a.users_expected == 2 for a in aggregates)
    complete = [a for a in aggregates if a.users_reported == 2]
    assert len(complete) >= 0.9 * count
    offered_kbps = {
        1: STREAM_KBPS + DOWNLOAD_KBPS + PROBE_KBPS["ue1"],
        2: COMMANDS_KBPS + PROBE_KBPS["ue2"],
    }
    for slice_id, expected_kbps in offered_kbps.items():
        seen = [d for a in complete for d in a.slices if d.slice_id == slice_id]
        assert {d.users for d in seen} == {1}
        mean_kbps = np.mean([d.demand_kbps for d in seen])
        assert mean_kbps == pytest.approx(expected_kbps, rel=0.05), slice_id
        assert 0.8 * expected_kbps < np.mean([d.goodput_kbps for d in seen]) < expected_kbps
        assert all(d.owd_p95_ms is not None for d in seen)


def test_the_aggregate_leaves_right_after_the_report_that_completed_it(path: TwinPath) -> None:
    complete = [a for a in steady(path, "ap1", 20) if a.users_reported == 2]
    waits_ms = [(a.sent_at_ns - a.completed_at_ns) / 1e6 for a in complete]
    assert np.median(waits_ms) < 1.0, waits_ms
    assert path.local("status")["reaction_ms"]["samples"] >= 20


def test_a_cell_without_users_reports_zero_for_every_slice_in_every_window(path: TwinPath) -> None:
    aggregates = steady(path, "ap2", 5)
    windows = [a.window for a in aggregates]
    assert windows == list(range(windows[0], windows[0] + 5))
    for aggregate in aggregates:
        assert (aggregate.users_reported, aggregate.users_expected) == (0, 0)
        assert [(d.slice_id, d.demand_kbps) for d in aggregate.slices] == [(1, 0.0), (2, 0.0)]
    assert path.centre.of("far") == []


def test_the_twin_shows_what_the_user_is_and_gets(path: TwinPath) -> None:
    wait_until(lambda: path.local("history", ue_id="ue1", last=100)[7:], 5)
    twin = path.local("twin", ue_id="ue1")
    assert twin["connectivity"]["serving_cell"]["value"] == "ap1"
    assert twin["connectivity"]["rsrp_dbm"]["value"] == {"ap1": -80.0, "ap2": -95.0, "far": -95.0}
    assert twin["user"]["location_m"]["value"] == [10.0, 20.0]
    assert twin["user"]["kind"]["value"] == "phone"
    stream = twin["services"]["stream"]["down"]
    assert stream["demand_kbps"]["value"] == pytest.approx(STREAM_KBPS, rel=0.2)
    assert stream["demand_kbps"]["unit"] == "kbit/s"
    wait_until(
        lambda: (
            path.local("twin", ue_id="ue1")["services"]["files"]["down"]["demand_kbps"]["value"] > 0
        ),
        3,
    )
    assert twin["services"]["probe-video"]["up"]["demand_kbps"]["value"] > 0
    assert 0 <= stream["demand_kbps"]["age_ms"] < 2 * PERIOD_MS
    history = path.local("history", ue_id="ue1", last=100)
    assert len(history) == 8  # history_length
    versions = [entry["sequence"] for entry in history]
    assert versions == list(range(versions[0], versions[0] + 8))
    assert max(path.local("ages")) < 2 * PERIOD_MS
    with pytest.raises(rpc.RpcError, match="no twin of 'ue9'"):
        path.local("twin", ue_id="ue9")


# -- what must change nothing -----------------------------------------------------


def counterfeit(path: TwinPath, **changes: Any) -> UserReport:
    """A report of ue1 that would be the next one, but for `changes`."""
    now_ns = time.time_ns()
    period_ns = PERIOD_MS * 1_000_000
    honest = {
        "sequence": path.local("twin", ue_id="ue1")["version"] + 1000,
        "measured_at_ns": now_ns,
        "window": now_ns // period_ns - 1,
        "period_ms": PERIOD_MS,
        "flows": (),
    }
    return sample_report(**{**honest, **changes})


def send_as(path: TwinPath, source: str, payload: bytes) -> None:
    with socket_in(path.users_netns, socket.AF_INET, socket.SOCK_DGRAM) as crafted:
        crafted.bind((source, 0))
        crafted.sendto(payload, (COLLECTOR_IP, COLLECTOR_UDP_PORT))


def in_an_hour() -> dict[str, int]:
    at_ns = time.time_ns() + 3600 * 10**9
    return {"measured_at_ns": at_ns, "window": at_ns // (PERIOD_MS * 1_000_000) - 1}


def replayed(path: TwinPath) -> bytes:
    (last,) = path.local("history", ue_id="ue1", last=1)
    return orjson.dumps(last)


CRAFTED: dict[str, tuple[str, Callable[[TwinPath], bytes]]] = {
    "spoofed": (session_ip(0, 1), lambda p: encoded(counterfeit(p))),
    "not_finite": (
        session_ip(0, 0),
        lambda p: encoded(counterfeit(p)).replace(b'"speed_mps":3.0', b'"speed_mps":NaN'),
    ),
    "replayed": (session_ip(0, 0), replayed),
    "oversized": (session_ip(0, 0), lambda p: encoded(counterfeit(p)) + b" " * 5000),
    "malformed": (session_ip(0, 0), lambda p: b"\x00" * 40),
    "unknown_user": (session_ip(0, 0), lambda p: encoded(counterfeit(p, ue_id="ue9"))),
    "mismatched": (session_ip(0, 0), lambda p: encoded(counterfeit(p, kind="tank"))),
    "stale": (
        session_ip(0, 0),
        lambda p: encoded(
            counterfeit(p, measured_at_ns=PERIOD_MS * 1_000_000 * 9, window=8, sequence=2**50)
        ),
    ),
    "future": (session_ip(0, 0), lambda p: encoded(counterfeit(p, **in_an_hour()))),
    "out_of_range": (  # a speed in mm/s
        session_ip(0, 0),
        lambda p: encoded(counterfeit(p)).replace(b'"speed_mps":3.0', b'"speed_mps":3000.0'),
    ),
}


@pytest.mark.parametrize("reason", CRAFTED)
def test_a_bad_datagram_is_counted_by_its_reason_and_changes_nothing(
    path: TwinPath, reason: str
) -> None:
    wait_until(lambda: len(path.local("twins")) == 2, 5)
    before = path.local("status")["rejected"]
    source, payload = CRAFTED[reason]
    send_as(path, source, payload(path))
    wait_until(lambda: path.local("status")["rejected"].get(reason, 0) > before.get(reason, 0), 3)
    after = path.local("status")["rejected"]
    assert after == {**before, reason: before.get(reason, 0) + 1}
    # The next honest report is accepted: no sequence was poisoned, and the twin is the user's.
    version = path.local("twin", ue_id="ue1")["version"]
    wait_until(lambda: path.local("twin", ue_id="ue1")["version"] > version, 3)
    twin = path.local("twin", ue_id="ue1")
    assert twin["version"] < version + 100
    assert twin["user"]["speed_mps"]["value"] == 1.5


# -- changes ------------------------------------------------------------------------


def test_a_changed_period_changes_what_is_on_the_wire(path: TwinPath) -> None:
    answer = path.agents("configure", ue_id="ue2", report_period_ms=PERIOD_MS // 2)
    assert answer["ue_ids"] == ["ue2"]
    try:
        count = 20

        def recent() -> list[float]:
            intervals: list[float] = path.local("inter_arrivals").get("ue2", [])[-count:]
            return intervals

        wait_until(
            lambda: (
                len(recent()) == count
                and np.median(recent()) == pytest.approx(PERIOD_MS / 2, rel=0.05)
                and max(recent()) < 0.75 * PERIOD_MS
            ),
            10,
        )
        assert path.local("twin", ue_id="ue2")["period_ms"] == PERIOD_MS // 2
        (slice_2,) = (d for d in steady(path, "ap1", 1)[0].slices if d.slice_id == 2)
        assert slice_2.demand_kbps == pytest.approx(COMMANDS_KBPS + PROBE_KBPS["ue2"], rel=0.2)
    finally:
        path.agents("configure", kind="phone", report_period_ms=PERIOD_MS)
    with pytest.raises(rpc.RpcError, match="known: phone"):
        path.agents("configure", kind="tank", report_period_ms=100)
    with pytest.raises(rpc.RpcError, match="20-60000"):
        path.agents("configure", kind="phone", report_period_ms=1)


def test_restarted_agents_count_on_and_are_not_taken_for_replays(path: TwinPath) -> None:
    supervisor = path.pair.supervisor
    version = path.local("twin", ue_id="ue1")["version"]
    supervisor.children["user-agents"].process.kill()
    supervisor.stop(["user-agents"])
    supervisor.start("user-agents", ["topologies.user_agents", str(path.pair.run.path)])
    wait_until(lambda: answers(path.agents), 15)
    rejected = path.local("status")["rejected"].get("replayed", 0)

    def versions() -> dict[str, int]:
        return {t["id"]: t["version"] for t in path.local("twins")}

    wait_until(lambda: len(versions()) == 2 and versions().get("ue1", 0) > version, 5)
    assert version < path.local("twin", ue_id="ue1")["version"] < version + 200
    assert path.local("status")["rejected"].get("replayed", 0) == rejected


def test_a_better_neighbour_is_asked_for_after_the_time_to_trigger(path: TwinPath) -> None:
    asked = len(path.centre.requests)
    path.radio.write(0, 0, -90.0, -80.0, -95.0)
    changed_at_ns = time.time_ns()
    try:
        wait_until(lambda: len(path.centre.requests) > asked, 5)
        request = path.centre.requests[asked]
        assert request["xapp"] == "a3-handover"
        assert request["action"] == "handover"
        assert request["target"] == {"ue_id": "ue1"}
        assert request["parameters"] == {"cell_id": "ap2"}
        waited_ms = (request["hops_ns"]["twin_completed"] - changed_at_ns) / 1e6
        assert TTT_MS <= waited_ms <= TTT_MS + 3 * PERIOD_MS
        # Refused: asked again only after the back-off.
        wait_until(lambda: len(path.centre.requests) > asked + 1, 5)
        first, second = (r["hops_ns"]["twin_completed"] for r in path.centre.requests[asked:][:2])
        assert (second - first) / 1e6 >= 1000
        assert path.local("status")["handovers"]["rejected"] >= 1
    finally:
        path.radio.write(0, 0, -80.0, -95.0, -95.0)


def test_after_a_confirmed_handover_the_user_belongs_to_the_other_cell(path: TwinPath) -> None:
    assert path.local("attached", ue_id="ue1", cell_id="ap2") == {"here": True}
    path.radio.write(0, 1, -90.0, -80.0, -95.0)
    try:
        wait_until(lambda: path.centre.of("ap2")[-1].users_reported == 1, 3)
        moved = steady(path, "ap2", 20)
        assert {a.users_expected for a in moved} == {1}
        mean_kbps = np.mean([a.slices[0].demand_kbps for a in moved if a.users_reported])
        expected_kbps = STREAM_KBPS + DOWNLOAD_KBPS + PROBE_KBPS["ue1"]
        assert mean_kbps == pytest.approx(expected_kbps, rel=0.1)
        wait_until(lambda: path.centre.of("ap1")[-1].users_expected == 1, 3)
        assert path.local("twin", ue_id="ue1")["connectivity"]["serving_cell"]["value"] == "ap2"
    finally:
        path.local("attached", ue_id="ue1", cell_id="ap1")
        path.radio.write(0, 0, -80.0, -95.0, -95.0)


def test_a_user_who_moved_to_another_edge_has_no_twin_here(path: TwinPath) -> None:
    path.radio.write(0, 2, -90.0, -95.0, -80.0)
    wait_until(
        lambda: path.local("twin", ue_id="ue1")["connectivity"]["rsrp_dbm"]["value"]["far"] == -80,
        3,
    )
    assert path.local("attached", ue_id="ue1", cell_id="far") == {"here": False}
    try:
        # Until the other edge holds it, or cannot be reached, as here, the twin stays readable.
        wait_until(lambda: [t["id"] for t in path.local("twins")] == ["ue2"], 5)
        assert path.local("status")["migrations"]["failed"] == 1
        wait_until(lambda: path.local("status")["rejected"].get("foreign_cell", 0) >= 2, 3)
        assert [t["id"] for t in path.local("twins")] == ["ue2"]
        wait_until(lambda: path.centre.of("ap1")[-1].users_expected == 1, 3)
    finally:
        path.local("attached", ue_id="ue1", cell_id="ap1")
        path.radio.write(0, 0, -80.0, -95.0, -95.0)
    wait_until(lambda: len(path.local("twins")) == 2, 3)


def test_twins_of_silent_users_expire_and_cells_still_report(path: TwinPath) -> None:
    # A period whose next end is far away; at a nearer one ue2 would report once more.
    now_ms = time.time_ns() // 1_000_000
    silent_ms = max(range(30_000, 60_001, 1000), key=lambda period: period - now_ms % period)
    path.agents("configure", ue_id="ue2", report_period_ms=silent_ms)
    try:
        wait_until(lambda: [t["id"] for t in path.local("twins")] == ["ue1"], 3)
        wait_until(lambda: path.centre.of("ap1")[-1].users_expected == 1, 3)
    finally:
        path.agents("configure", ue_id="ue2", report_period_ms=PERIOD_MS)
    wait_until(lambda: len(path.local("twins")) == 2, 3)


# -- starting badly -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("controller.local", ["edge9"], "unknown edge server 'edge9'; known: edge1, edge2"),
        ("controller.local", ["edge1"], f"cannot bind UDP {COLLECTOR_IP}:{COLLECTOR_UDP_PORT}"),
        ("controller.local", [], "usage: python -m controller.local RUN_FOLDER EDGE"),
        ("topologies.user_agents", ["more"], "usage: python -m topologies.user_agents RUN_FOLDER"),
    ],
)
def test_a_wrong_start_is_one_clear_line(
    path: TwinPath, module: str, arguments: list[str], words: str
) -> None:
    supervisor = path.pair.supervisor
    name = f"bad-{module}-{len(arguments)}-{''.join(arguments)}"
    child = supervisor.start(name, [module, str(path.pair.run.path), *arguments])
    wait_until(lambda: not child.alive, 15)
    assert child.process.returncode in (1, 2)
    log = Path(path.pair.run.logs / f"{name}.log").read_text().strip()
    assert words in log
    assert len(log.splitlines()) == 1
