"""IPv4 and IPv6, four classes, ICMP and fragments: real packets through the whole network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from controller.contracts.addressing import COLLECTOR_IP, COLLECTOR_UDP_PORT, ipv6_of
from controller.contracts.inventory import Service
from controller.contracts.slices import TrafficClass, dscp_of, queue_of
from tests.emulated.enforced import Enforced, enforced
from tests.emulated.networks import three_slices
from tests.emulated.queue_figures import class_packets
from tests.waiting import wait_until
from topologies.namespaces import run_in, socket_in

DOWNLINK = "ap1_1"
VIDEO = 1
FORGED_DSCP = 46
DATAGRAMS = 20
VERSIONS = (socket.AF_INET, socket.AF_INET6)
CLASSES = list(TrafficClass)


@pytest.fixture(scope="module")
def net(make_testbed: Callable[..., Any]) -> Iterator[Enforced]:
    with make_testbed(three_slices()) as testbed, enforced(testbed) as network:
        yield network


@dataclass(frozen=True)
class Arrived:
    payload: bytes
    dscp: int


class Datagrams:
    """A bound UDP socket in a host, IPv4 or IPv6, that says and sees the DSCP."""

    def __init__(self, net: Enforced, host: str, ip: str, family: int, port: int) -> None:
        self.family, self.address = family, (of(family, ip), port)
        self.socket = socket_in(net.testbed.netns(host), family, socket.SOCK_DGRAM)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, FORGED_DSCP << 2)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, FORGED_DSCP << 2)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        self.socket.settimeout(2.0)
        self.socket.bind(self.address)

    def receive(self) -> Arrived:
        payload, ancillary, _, _ = self.socket.recvmsg(65_536, 64)
        return Arrived(payload, ancillary[0][2][0] >> 2)

    def __enter__(self) -> Datagrams:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def of(family: int, ip: str) -> str:
    return ip if family == socket.AF_INET else ipv6_of(ip)


def service_of(net: Enforced, traffic_class: TrafficClass) -> Service:
    services = net.testbed.inventory.services
    return next(s for s in services if (s.slice_id, s.traffic_class) == (VIDEO, traffic_class))


def user_ip(net: Enforced, user: str = "ue1", slice_id: int = VIDEO) -> str:
    ip: str = net.testbed.session_ip(user, slice_id)
    return ip


@pytest.mark.parametrize("family", VERSIONS, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("traffic_class", CLASSES)
def test_each_class_has_its_code_point_and_its_queue(
    net: Enforced, traffic_class: TrafficClass, family: int
) -> None:
    """Both ways, whatever code point the hosts forge; counted by the kernel's HTB classes."""
    service, dscp = service_of(net, traffic_class), dscp_of(VIDEO, traffic_class)
    queues = {queue_of(dscp_of(VIDEO, c)) for c in CLASSES}
    with (
        Datagrams(net, "ue1", user_ip(net), family, 7001) as user,
        Datagrams(net, "edge1", service.address, family, 7002) as server,
    ):
        user.socket.sendto(b"up", server.address)
        assert server.receive().dscp == dscp
        before = {q: class_packets(DOWNLINK, q) for q in queues}
        for _ in range(DATAGRAMS):
            server.socket.sendto(b"down", user.address)
        assert {user.receive().dscp for _ in range(DATAGRAMS)} == {dscp}
        passed = {q: class_packets(DOWNLINK, q) - before[q] for q in queues}
    assert passed == {q: DATAGRAMS if q == queue_of(dscp) else 0 for q in queues}


@pytest.mark.parametrize("family", VERSIONS, ids=["IPv4", "IPv6"])
class TestFragments:
    PAYLOAD = bytes(range(256)) * 16
    FRAGMENTS = 3

    def test_all_go_one_way_and_through_one_meter_and_queue(
        self, net: Enforced, family: int
    ) -> None:
        service = service_of(net, TrafficClass.ELASTIC)
        queue_id = queue_of(dscp_of(VIDEO, TrafficClass.ELASTIC))
        with (
            Datagrams(net, "ue1", user_ip(net), family, 7003) as user,
            Datagrams(net, "edge1", service.address, family, 7004) as server,
        ):
            user.socket.sendto(self.PAYLOAD, server.address)
            assert server.receive().payload == self.PAYLOAD
            metered, queued = self.metered(net), class_packets(DOWNLINK, queue_id)
            for _ in range(DATAGRAMS):
                server.socket.sendto(self.PAYLOAD, user.address)
                assert user.receive().payload == self.PAYLOAD
        frames = DATAGRAMS * self.FRAGMENTS
        assert class_packets(DOWNLINK, queue_id) - queued == frames
        wait_until(lambda: self.metered(net) - metered == frames, 2.0)

    def metered(self, net: Enforced) -> int:
        counters = net.run(net.enforcer.counters(settle=True))
        return sum(
            m.packets
            for m in counters.meters
            if (m.cell_id, m.slice_id, m.direction.value) == ("ap1", VIDEO, "down")
        )

    def test_where_ports_are_matched_they_are_dropped_and_counted(
        self, net: Enforced, family: int
    ) -> None:
        """A report that does not fit a frame: Open vSwitch sees no port in a fragment."""
        own = net.testbed.inventory.user("ue1").infrastructure_ip
        before = net.run(net.enforcer.counters(settle=True)).security_drops
        with Datagrams(net, "ue1", own, family, 7005) as agent:
            agent.socket.sendto(self.PAYLOAD, (of(family, COLLECTOR_IP), COLLECTOR_UDP_PORT))

        def dropped() -> int:
            return net.run(net.enforcer.counters(settle=True)).security_drops - before

        wait_until(lambda: dropped() == self.FRAGMENTS, 2.0)


@pytest.mark.parametrize("family", VERSIONS, ids=["IPv4", "IPv6"])
class TestIcmp:
    def ping(self, net: Enforced, source: str, target: str, *more: str) -> str:
        words = ["ping", "-c", "5", "-i", "0.05", "-W", "1", "-I", source, *more, target]
        return run_in(net.testbed.netns("ue1"), ["sh", "-c", f"{' '.join(words)} || true"])

    def test_ping_between_user_and_service_in_the_service_s_class(
        self, net: Enforced, family: int
    ) -> None:
        service = service_of(net, TrafficClass.REAL_TIME)
        queue_id = queue_of(dscp_of(VIDEO, TrafficClass.REAL_TIME))
        before = class_packets(DOWNLINK, queue_id)
        said = self.ping(net, of(family, user_ip(net)), of(family, service.address))
        assert "5 received" in said
        assert class_packets(DOWNLINK, queue_id) - before == 5

    def test_large_pings_are_fragments(self, net: Enforced, family: int) -> None:
        service = service_of(net, TrafficClass.ELASTIC)
        said = self.ping(net, of(family, user_ip(net)), of(family, service.address), "-s", "4000")
        assert "5 received" in said

    def test_the_network_is_one_hop_and_tells_nobody_about_itself(
        self, net: Enforced, family: int
    ) -> None:
        """No switch lowers a packet's life, so none answers a traceroute."""
        service = service_of(net, TrafficClass.ELASTIC)
        said = self.ping(net, of(family, user_ip(net)), of(family, service.address), "-t", "1")
        assert "5 received" in said

    @pytest.mark.parametrize("life", ["1", "64"])
    def test_never_to_another_slice_and_no_error_comes_back(
        self, net: Enforced, family: int, life: str
    ) -> None:
        task = next(s for s in net.testbed.inventory.services if s.slice_id == 2)
        said = self.ping(net, of(family, user_ip(net)), of(family, task.address), "-t", life)
        assert "0 received" in said and "errors" not in said and "From" not in said

    def test_errors_come_back_within_the_slice(self, net: Enforced, family: int) -> None:
        service = service_of(net, TrafficClass.ELASTIC)
        with Datagrams(net, "ue1", user_ip(net), family, 7006) as user:
            user.socket.connect((of(family, service.address), 7999))
            user.socket.send(b"nobody listens")
            with pytest.raises(ConnectionRefusedError):
                user.receive()


@pytest.mark.parametrize("family", VERSIONS, ids=["IPv4", "IPv6"])
def test_tcp_transfers_a_megabyte(net: Enforced, family: int) -> None:
    service = service_of(net, TrafficClass.ELASTIC)
    testbed = net.testbed
    payload = bytes(1_000_000)
    listener = socket_in(testbed.netns("edge1"), family, socket.SOCK_STREAM)
    client = socket_in(testbed.netns("ue1"), family, socket.SOCK_STREAM)
    with listener, client:
        listener.bind((of(family, service.address), 7007))
        listener.listen()
        client.bind((of(family, user_ip(net)), 0))
        client.settimeout(10.0)
        client.connect((of(family, service.address), 7007))
        server, _ = listener.accept()
        with server:
            server.settimeout(10.0)

            def send() -> None:
                server.sendall(payload)
                server.shutdown(socket.SHUT_WR)

            def receive() -> int:
                return sum(len(part) for part in iter(lambda: client.recv(65_536), b""))

            sending = threading.Thread(target=send)
            sending.start()
            received = receive()
            sending.join()
    assert received == len(payload)


def test_hosts_send_nothing_unasked_and_know_one_gateway(net: Enforced) -> None:
    """No solicitation, no advertisement, no link-local address, no duplicate detection."""
    words = net.testbed.in_host("ue1", "ip", "-6", "addr", "show", "dev", "ue1-eth0")
    assert "fe80" not in words and "tentative" not in words
    neighbours = net.testbed.in_host("ue1", "ip", "-6", "neigh")
    assert neighbours.split()[0] == "fe80::1" and "PERMANENT" in neighbours
