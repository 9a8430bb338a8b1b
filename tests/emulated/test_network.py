"""The built network has the scenario's rates, delays, queues and addresses: real packets."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controller.contracts.addressing import CENTRE_IP, GATEWAY_MAC, ipv6_of
from controller.contracts.slices import TrafficClass, dscp_of
from tests.emulated import networks, plain_forwarding
from tests.emulated.paced_udp import Arrivals, send_and_count
from tests.waiting import wait_until
from topologies import packet_sockets
from topologies.namespaces import run
from topologies.packet_sockets import LEAST_SEND_BUFFER_BYTES

pytestmark = pytest.mark.emulated

BEST_EFFORT = dscp_of(15, TrafficClass.BEST_EFFORT)
"""A code point whose queue stands without a controller and may take the whole link."""
VIDEO = dscp_of(1, TrafficClass.ELASTIC)
RATE_TOLERANCE_RATIO = 0.05
PINGS = 40


@pytest.fixture(scope="module")
def testbed(make_testbed: Callable[..., Any]) -> Iterator[Any]:
    with make_testbed(networks.two_cells()) as built:
        plain_forwarding.install(built.inventory, built.run.ovs)
        yield built


def round_trips_ms(testbed: Any, host: str, source_ip: str, target_ip: str) -> list[float]:
    words = testbed.in_host(
        host, "ping", "-i", "0.02", "-c", str(PINGS), "-W", "2", "-I", source_ip, target_ip
    )
    return [float(w.split("=")[1]) for w in words.split() if w.startswith("time=")]


def rate_mbps(testbed: Any, source: str, sink: str, ip: str, offered_mbps: float) -> float:
    arrivals = send_and_count(
        testbed.netns(source), testbed.netns(sink), (ip, 7000),
        offered_mbps, duration_s=2.0, dscp=BEST_EFFORT,
    )  # fmt: skip
    measured_mbps = arrivals.l2_mbps()
    print(f"{source} -> {sink}: {measured_mbps:.2f} Mbit/s of {offered_mbps} offered, "
          f"{arrivals.received} packets")  # fmt: skip
    return measured_mbps


class TestRates:
    """Every port with a rate passes that rate of frames, within 5 %."""

    def test_downlink(self, testbed: Any) -> None:
        got = rate_mbps(testbed, "edge1", "ue1", testbed.session_ip("ue1", 1), 30)
        assert got == pytest.approx(networks.DOWN_MBPS, rel=RATE_TOLERANCE_RATIO)

    def test_uplink(self, testbed: Any) -> None:
        got = rate_mbps(testbed, "ue1", "cloud", testbed.service("task").address, 20)
        assert got == pytest.approx(networks.UP_MBPS, rel=RATE_TOLERANCE_RATIO)

    def test_backhaul_towards_the_access_point(self, testbed: Any) -> None:
        got = rate_mbps(testbed, "bg-src", "ue2", testbed.session_ip("ue2", 1), 55)
        assert got == pytest.approx(networks.BACKHAUL_MBPS, rel=RATE_TOLERANCE_RATIO)

    def test_link_with_delay_towards_the_host(self, testbed: Any) -> None:
        got = rate_mbps(testbed, "bg-src", "cloud", testbed.service("task").address, 45)
        assert got == pytest.approx(networks.CLOUD_MBPS, rel=RATE_TOLERANCE_RATIO)

    def test_link_with_delay_from_the_host(self, testbed: Any) -> None:
        got = rate_mbps(testbed, "cloud", "ue2", testbed.session_ip("ue2", 1), 45)
        assert got == pytest.approx(networks.CLOUD_MBPS, rel=RATE_TOLERANCE_RATIO)

    def test_tcp_fills_the_uplink(self, testbed: Any) -> None:
        """TCP, too: checksums are right although nobody's network card computes them."""
        target = testbed.service("stream").address  # at edge1, on ue2's way over the core
        run_server = ["iperf3", "-s", "-1", "-D", "-B", target]
        testbed.in_host("edge1", *run_server)
        wait_until(lambda: ":5201" in testbed.in_host("edge1", "ss", "-ltn"), 3.0)
        words = testbed.in_host(
            "ue2", "iperf3", "-c", target, "-t", "4", "-O", "1", "-J", "-R",
            "-S", str(BEST_EFFORT << 2),
        )  # fmt: skip
        payload_mbps = json.loads(words)["end"]["sum_received"]["bits_per_second"] / 1e6
        frames_mbps = payload_mbps * 1514 / 1448
        print(f"tcp edge1 -> ue2: {frames_mbps:.2f} Mbit/s of frames")
        assert frames_mbps == pytest.approx(networks.UP_MBPS, rel=2 * RATE_TOLERANCE_RATIO)


class TestDelays:
    """Median round trip within twice (5 % + 1 ms) of twice the delay each way."""

    @pytest.mark.parametrize(
        ("target", "delay_ms"),
        [("task", networks.CLOUD_DELAY_MS), (CENTRE_IP, networks.CENTRE_DELAY_MS), ("stream", 0)],
    )
    def test_round_trip(self, testbed: Any, target: str, delay_ms: float) -> None:
        user = testbed.inventory.user("ue1")
        if target == CENTRE_IP:
            source, ip = user.infrastructure_ip, CENTRE_IP
        else:
            found = testbed.service(target)
            source, ip = testbed.session_ip("ue1", found.slice_id), found.address
        trips_ms = round_trips_ms(testbed, "ue1", source, ip)
        median_ms = statistics.median(trips_ms)
        print(f"ping {target}: median {median_ms:.2f} ms of {2 * delay_ms}, {len(trips_ms)} pings")
        assert len(trips_ms) == PINGS
        assert abs(median_ms - 2 * delay_ms) <= 2 * (0.05 * delay_ms + 1)

    def test_delay_and_loss_change_live(self, testbed: Any) -> None:
        port = testbed.network.plan.port_of_host("cloud").interface
        wire = testbed.network.wires[port]
        found = testbed.service("task")
        source = testbed.session_ip("ue1", found.slice_id)
        try:
            wire.set_delay(25.0)
            trips_ms = round_trips_ms(testbed, "ue1", source, found.address)
            assert abs(statistics.median(trips_ms) - 50) <= 2 * (0.05 * 25 + 1)
            wire.set_loss(0.3)
            arrivals = send_and_count(
                testbed.netns("bg-src"), testbed.netns("cloud"), (found.address, 7001),
                2.0, duration_s=3.0, dscp=BEST_EFFORT, payload_bytes=200,
            )  # fmt: skip
            print(f"loss {arrivals.loss_ratio:.3f} of 0.3, {arrivals.sent} packets")
            assert arrivals.loss_ratio == pytest.approx(0.3, abs=0.05)
        finally:
            wire.set_loss(0.0)
            wire.set_delay(networks.CLOUD_DELAY_MS)

    def test_a_stalled_wire_keeps_frames_whole(self, testbed: Any) -> None:
        """While its filter stands still frames of both ways wait; none is lost or mixed up."""
        wire = testbed.network.wires[testbed.network.plan.port_of_host("cloud").interface]
        to_cloud = ("bg-src", "cloud", (testbed.service("task").address, 7002))
        from_cloud = ("cloud", "ue2", (testbed.session_ip("ue2", 1), 7002))

        def send(source: str, sink: str, address: tuple[str, int]) -> Arrivals:
            namespaces = testbed.netns(source), testbed.netns(sink)
            return send_and_count(*namespaces, address, 4.0, duration_s=1.5, dscp=BEST_EFFORT)

        with ThreadPoolExecutor() as senders:
            both_ways = [senders.submit(send, *way) for way in (to_cloud, from_cloud)]
            started_s = time.monotonic()
            for stall in range(3):
                for at_s, sent in ((0.25, signal.SIGSTOP), (0.4, signal.SIGCONT)):
                    due_s = started_s + 0.4 * stall + at_s
                    wait_until(lambda due_s=due_s: time.monotonic() >= due_s, 5.0)
                    os.kill(wire.filter_pid, sent)
            arrivals = [way.result() for way in both_ways]
        assert [a.received for a in arrivals] == [a.sent for a in arrivals]
        assert max(max(a.delays_ms) for a in arrivals) > 100, "the wire never stood still"


class TestPorts:
    """What the plan says is what Open vSwitch and the kernel have."""

    def test_port_numbers_and_dpids(self, testbed: Any) -> None:
        for switch in testbed.inventory.switches:
            dpid = testbed.ovs.vsctl(["get", "Bridge", switch.name, "datapath_id"])
            assert int(dpid.strip().strip('"'), 16) == switch.dpid
        for port in testbed.inventory.ports:
            got = testbed.ovs.vsctl(["get", "Interface", port.interface, "ofport"])
            assert int(got) == port.port_no


class TestHosts:
    def test_addresses_routes_and_quiet(self, testbed: Any) -> None:
        user = testbed.inventory.user("ue1")
        for session in user.sessions:
            route = testbed.in_host("ue1", "ip", "route", "get", f"10.{session.slice_id}.200.1")
            assert f"src {session.ip} " in route
        plain = testbed.in_host("ue1", "ip", "route", "get", "192.0.2.1")
        assert f"src {user.sessions[0].ip} " in plain  # the first session is the default one
        # IPv6: the twins of its addresses and no link-local one to talk to neighbours with.
        addresses = testbed.in_host("ue1", "ip", "-6", "addr", "show", "dev", "ue1-eth0")
        own = [ipv6_of(ip) for ip in (user.infrastructure_ip, *(s.ip for s in user.sessions))]
        assert addresses.count("inet6") == len(own)
        assert all(f"{ip}/128 " in addresses for ip in own)
        for session in user.sessions:
            service = ipv6_of(f"10.{session.slice_id}.200.1")
            route = testbed.in_host("ue1", "ip", "route", "get", service)
            assert f"src {ipv6_of(session.ip)} " in route
        testbed.in_host("ue1", "ping", "-c", "1", "-W", "2", testbed.service("stream").address)
        neighbours = testbed.in_host("ue1", "ip", "neigh")
        assert GATEWAY_MAC in neighbours

    def test_service_addresses_on_every_candidate(self, testbed: Any) -> None:
        found = testbed.service("stream")
        for server in found.candidates:
            assert f"{found.address}/32" in testbed.in_host(server, "ip", "addr")

    def test_checksum_offload_is_off(self, testbed: Any) -> None:
        words = testbed.in_host("ue1", "ethtool", "-k", "ue1-eth0")
        assert "tx-checksumming: off" in words
        assert "generic-segmentation-offload: off" in words


class TestRestart:
    """Last in this file: it costs the flows."""

    def test_vswitchd_comes_back_with_ports_queues_filters_and_buffers(self, testbed: Any) -> None:
        for abruptly in (False, True):
            before = testbed.ovs.vswitchd_pid
            testbed.ovs.restart_vswitchd(abruptly)
            assert testbed.ovs.vswitchd_pid != before
            self.require_all_but_flows(testbed)
        plain_forwarding.install(testbed.inventory, testbed.run.ovs)
        got = rate_mbps(testbed, "edge1", "ue1", testbed.session_ip("ue1", 1), 30)
        assert got == pytest.approx(networks.DOWN_MBPS, rel=RATE_TOLERANCE_RATIO)

    @staticmethod
    def require_all_but_flows(testbed: Any) -> None:
        for port in testbed.inventory.ports:
            got = testbed.ovs.vsctl(["get", "Interface", port.interface, "ofport"])
            assert int(got) == port.port_no
        assert "bpf" in run(["tc", "filter", "show", "dev", "ap1_1"])
        assert "1:3 " in run(["tc", "class", "show", "dev", "ap1_1"])
        flows = run(["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "ap1"])
        assert "actions" not in flows
        buffers = [int(b) for b in re.findall(r",tb(\d+),", run(["ss", "-0", "-m"]))]
        assert len(buffers) > len(testbed.inventory.ports)  # one each to receive, one to send
        assert min(buffers) >= LEAST_SEND_BUFFER_BYTES

    def test_without_pidfd_getfd_the_sysctl_is_raised_and_put_back(
        self, testbed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sysctl = Path("/proc/sys/net/core/wmem_default")
        before = sysctl.read_text()
        monkeypatch.setattr(packet_sockets, "can_duplicate", lambda: False)
        testbed.ovs.enlarge_send_buffers()
        assert sysctl.read_text() == before
        assert "sysctl" in {e.kind for e in testbed.manifest.entries()}
        buffers = [int(b) for b in re.findall(r",tb(\d+),", run(["ss", "-0", "-m"]))]
        assert min(buffers) >= LEAST_SEND_BUFFER_BYTES


def test_without_slicing_everything_is_in_one_queue(make_testbed: Callable[..., Any]) -> None:
    with make_testbed(networks.two_cells(slicing=False)) as built:
        plain_forwarding.install(built.inventory, built.run.ovs)
        assert run(["tc", "filter", "show", "dev", "ap1_1"]).strip() == ""
        got = rate_mbps(built, "edge1", "ue1", built.session_ip("ue1", 1), 30)
        assert got == pytest.approx(networks.DOWN_MBPS, rel=RATE_TOLERANCE_RATIO)
