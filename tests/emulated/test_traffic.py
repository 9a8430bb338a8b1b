"""Real packets between two namespaces: what is sent, received, timed and noticed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.contracts import rpc
from tests.emulated.two_hosts import TwoHosts, two_hosts
from tests.sample_inventory import sample_scenario
from tests.waiting import wait_until
from topologies.namespaces import inside
from topologies.traffic.attack_frames import LAWFUL
from topologies.traffic.attempts import attempt_crossings
from topologies.traffic.engine import Measurements, TrafficEngine
from topologies.traffic.payload import new_payload

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

WINDOWS = 3


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    base = sample_scenario().model_dump(mode="json")
    tcp = {
        "name": "files",
        "kind": "tcp",
        "service": "files",
        "users": ["ue1"],
        "demand": {"shape": "constant", "mbps": 5},
    }
    scenario = sample_scenario(traffic=[*base["traffic"], tcp])
    with two_hosts(tmp_path_factory.mktemp("run") / "holon-t-traffic", scenario) as made:
        yield made


@pytest.fixture(scope="module")
def engine(pair: TwoHosts) -> Iterator[TrafficEngine]:
    made = TrafficEngine(pair.run, pair.scenario, pair.inventory, pair.supervisor.start)
    made.prepare()
    yield made
    made.end()


@pytest.fixture(scope="module")
def measured(engine: TrafficEngine) -> Measurements:
    t0_ns = engine.start()
    until_ns = t0_ns + (WINDOWS + 1) * 1_000_000_000
    wait_until(lambda: time.time_ns() > until_ns, WINDOWS + 5)
    engine.stop()
    return engine.collect(t0_ns, until_ns)


def flow_rows(measured: Measurements, kind: str) -> list[int]:
    return [f.flow_id for f in measured.flows if f.kind == kind]


def test_every_packet_sent_is_received(measured: Measurements) -> None:
    totals = measured.totals
    udp = [f.flow_id for f in measured.flows if f.kind != "tcp"]
    assert (totals["sent_packets"][udp] > 100).all()
    assert (totals["received_packets"] == totals["sent_packets"]).all()
    assert (totals["received_bytes"] == totals["sent_bytes"]).all()
    assert (totals["highest_seq"] == totals["sent_packets"]).all()
    assert not totals["host_drops"].any()
    assert not totals["socket_drops"].any()


def test_window_sums_are_the_totals(engine: TrafficEngine, measured: Measurements) -> None:
    for half in ("sent", "received"):
        packets, l2_bytes = engine.counters.windows(half, 0, 60)
        assert (packets.sum(axis=1) == measured.totals[f"{half}_packets"]).all()
        assert (l2_bytes.sum(axis=1) == measured.totals[f"{half}_bytes"]).all()
    assert (measured.sent_packets == measured.received_packets).all()


def test_rates_are_the_scenarios(measured: Measurements) -> None:
    mbps = measured.sent_bytes * 8 / 1e6
    by_name = {f.name: mbps[f.flow_id] for f in measured.flows}
    # 5 %: a busy machine may make a tick late and forgo the credit beyond 20 ms.
    assert by_name["stream-ue1"] == pytest.approx(8, rel=0.05)
    assert by_name["commands-ue2"] == pytest.approx(2, rel=0.05)
    assert by_name["filler-ap1"] == pytest.approx(20, rel=0.05)


def test_delays_are_kernel_to_kernel(measured: Measurements) -> None:
    owd_ms = measured.samples.owd_ns / 1e6
    assert measured.receivers["without_kernel_time"] == 0
    assert (owd_ms > 0).all()
    # Sockets are drained every 10 ms; a delay taken at the drain would have a median near 5 ms.
    assert np.median(owd_ms) < 1.0


def test_samples_are_complete(measured: Measurements) -> None:
    counts = np.bincount(measured.samples.flow_id, minlength=len(measured.flows))
    for flow_id in flow_rows(measured, "probe") + flow_rows(measured, "paced"):
        assert counts[flow_id] == measured.received_packets[flow_id].sum()
    assert counts[flow_rows(measured, "filler")].sum() == 0


def test_probes_keep_their_schedule(measured: Measurements) -> None:
    # Two directions of 50/s and of 100/s; a probe on a window's edge falls on either side.
    assert measured.slip["samples"] == pytest.approx(300 * measured.window_count, abs=4)
    assert measured.slip["p50_ms"] < 1.0


def test_tcp_flow_is_measured_at_both_ends(measured: Measurements) -> None:
    (result,) = measured.tcp
    assert result.error == ""
    assert result.goodput_mbps == pytest.approx(5 * 1448 / 1514, rel=0.15)
    assert result.rtt_mean_ms is not None and 0 < result.rtt_mean_ms < 50


def test_segments_are_counted_by_the_kernels_of_both_ends(
    engine: TrafficEngine, measured: Measurements
) -> None:
    """Nobody takes a segment away between them."""
    (flow_id,) = flow_rows(measured, "tcp")
    first = engine.segments()[flow_id]
    assert first.sent == first.received > 100
    assert engine.segments()[flow_id] == first, "read again, nothing is forgotten"


def test_own_traffic_is_no_leak(measured: Measurements) -> None:
    assert measured.leaks == []
    assert not measured.totals["wrong_slice"].any()


def send_raw(
    pair: TwoHosts, local: tuple[str, int], remote: tuple[str, int], payload: bytes
) -> None:
    with inside(f"/proc/{pair.server_pid}/ns/net"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sender.bind(local)
        sender.sendto(payload, remote)


def leaks_of(pair: TwoHosts) -> dict[str, dict[str, int]]:
    answer: list[dict[str, Any]] = rpc.call(pair.run.path / "receivers.sock", "leaks")
    return {item["host"]: item["frames_by_slice"] for item in answer}


def test_frame_of_another_slice_is_a_leak(
    pair: TwoHosts, engine: TrafficEngine, measured: Measurements
) -> None:
    flows = {f.name: f for f in measured.flows}
    video, control = flows["stream-ue1"], flows["commands-ue2"]
    before = leaks_of(pair)
    send_raw(
        pair,
        (control.sender.address, 4000),
        (video.receiver.address, video.receiver.port),
        b"x" * 100,
    )
    wait_until(lambda: leaks_of(pair) != before, 5)
    assert leaks_of(pair)["ue1"] == {"2": 1}


def test_payload_of_another_slice_is_counted(
    pair: TwoHosts, engine: TrafficEngine, measured: Measurements
) -> None:
    """A probe that comes out of the right socket with the wrong slice in it."""
    flow = next(f for f in measured.flows if f.name == "commands-ue2")
    payload = new_payload(flow.flow_id, flow.slice_id + 1, 200)
    payload[16:24] = time.time_ns().to_bytes(8, "little")
    send_raw(
        pair,
        (flow.sender.address, flow.sender.port),
        (flow.receiver.address, flow.receiver.port),
        bytes(payload),
    )
    wait_until(lambda: engine.counters.totals["wrong_slice"][flow.flow_id] == 1, 5)
    assert (
        engine.counters.totals["received_packets"][flow.flow_id]
        == (measured.totals["received_packets"][flow.flow_id])
    )


def test_attempts_are_noticed_where_nothing_isolates(pair: TwoHosts) -> None:
    crossings = attempt_crossings(pair.inventory, count=2)
    assert len(crossings) >= 100
    for name in LAWFUL:
        lawful = crossings.pop(name)
        # Two hosts of the sample share the servers' namespace, so each frame is seen twice.
        assert (lawful.arrived, lawful.leaked) == (4, 0)
    for name, crossing in crossings.items():
        assert crossing.arrived == 2 * crossing.sent, name
        if crossing.crosses_if_carried:
            assert crossing.leaked > 0 and crossing.at == ("bg-src", "edge1"), name


def test_traffic_can_start_again(engine: TrafficEngine, measured: Measurements) -> None:
    t0_ns = engine.start()
    assert t0_ns > measured.t0_ns
    sent = engine.counters.totals["sent_packets"]
    probes = flow_rows(measured, "probe")
    wait_until(lambda: (sent[probes] > 10).all(), 5)
    engine.stop()
    totals = engine.counters.totals
    assert (totals["sent_packets"] == totals["received_packets"]).all()
    assert engine.alive()


def test_missing_inventory_is_one_clear_line(pair: TwoHosts, tmp_path: Path) -> None:
    child = pair.supervisor.start("senders-astray", ["topologies.traffic.senders", str(tmp_path)])
    assert child.process.wait(20) == 1
    assert "No such file" in pair.supervisor.last_line("senders-astray")
