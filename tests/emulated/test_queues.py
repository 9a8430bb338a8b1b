"""Queues of a port with a rate: who gets which, how long they are, and that no slice's
full queue costs another slice a frame."""

from __future__ import annotations

import select
import socket
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from controller.contracts.queue_tree import PRIORITY, QueueRates
from controller.contracts.slices import BEST_EFFORT_QUEUE_ID, TrafficClass, dscp_of, queue_of
from tests.emulated import networks, plain_forwarding
from tests.emulated.paced_udp import HEADER_BYTES, in_processes, send_and_count
from tests.emulated.queue_figures import class_drops, class_packets, extra_queue, leaf_kind
from tests.waiting import wait_until
from topologies.leaf_queues import RTMGRP_TC, bare_classes_only
from topologies.namespaces import run

pytestmark = pytest.mark.emulated

BEST_EFFORT = dscp_of(15, TrafficClass.BEST_EFFORT)
"""A code point whose queue stands without a controller and may take the whole link."""
VIDEO = dscp_of(1, TrafficClass.ELASTIC)
QUEUE_PACKETS = 100
PORT = "ap1_1"
"""Downlink of the first access point, towards ue1."""


@pytest.fixture(scope="module")
def testbed(make_testbed: Callable[..., Any]) -> Iterator[Any]:
    with make_testbed(networks.two_cells()) as built:
        plain_forwarding.install(built.inventory, built.run.ovs)
        yield built


def test_queues_are_as_long_as_the_scenario_says(testbed: Any) -> None:
    """A flood leaves exactly queue_packets frames waiting."""
    arrivals = send_and_count(
        testbed.netns("edge1"), testbed.netns("ue1"), (testbed.session_ip("ue1", 1), 7002),
        30, duration_s=2.0, dscp=BEST_EFFORT,
    )  # fmt: skip
    # The oldest frame makes room: who stays waits until as many have come after it.
    full_queue_ms = QUEUE_PACKETS * (1200 + HEADER_BYTES) * 8 / 30_000
    late_ms = statistics.median(arrivals.delays_ms[len(arrivals.delays_ms) // 2 :])
    print(f"standing queue {late_ms:.1f} ms of {full_queue_ms:.1f}")
    assert late_ms == pytest.approx(full_queue_ms, rel=0.1)


def test_the_filter_chooses_the_queue(testbed: Any) -> None:
    before = class_packets(PORT, BEST_EFFORT_QUEUE_ID)
    arrivals = send_and_count(
        testbed.netns("edge1"), testbed.netns("ue1"), (testbed.session_ip("ue1", 1), 7003),
        2, duration_s=0.5, dscp=BEST_EFFORT,
    )  # fmt: skip
    assert class_packets(PORT, BEST_EFFORT_QUEUE_ID) - before == arrivals.sent


def test_ovs_can_still_delete_a_class(testbed: Any) -> None:
    """The filter must not hold a slice's queue: what is given back must be gone."""
    with extra_queue(testbed.ovs, PORT, 6, QueueRates(8000, 8000, 2)):
        assert "1:7 " in run(["tc", "class", "show", "dev", PORT])
        wait_until(lambda: leaf_kind(PORT, 6) == "pfifo_head_drop", 2.0)
    assert "1:7 " not in run(["tc", "class", "show", "dev", PORT])


def test_a_class_that_has_its_leaf_does_not_wake_who_keeps_leaves(testbed: Any) -> None:
    """vswitchd sets all classes again at every change; only new ones have to be seen to."""
    with extra_queue(testbed.ovs, PORT, 6, QueueRates(8000, 8000, 2)):
        wait_until(lambda: leaf_kind(PORT, 6) == "pfifo_head_drop", 2.0)
        with tc_events() as everything, tc_events() as filtered:
            bare_classes_only(filtered)
            run(["tc", "class", "change", "dev", PORT, "classid", "1:7", "htb", "rate", "7mbit"])
            assert select.select([everything], [], [], 2.0)[0], "the kernel told nobody"
            assert not select.select([filtered], [], [], 0.2)[0]
            run(["tc", "qdisc", "del", "dev", PORT, "parent", "1:7"])
            run(["tc", "class", "change", "dev", PORT, "classid", "1:7", "htb", "rate", "6mbit"])
            assert select.select([filtered], [], [], 2.0)[0], "a bare class was filtered out"


@contextmanager
def tc_events() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as opened:
        opened.bind((0, RTMGRP_TC))
        yield opened


def test_a_full_queue_costs_no_other_queue_and_every_drop_is_counted(testbed: Any) -> None:
    """8 Mbit/s reserved, 6 offered, beside a filler of 1.25 times the link on one path."""
    queue_id = queue_of(VIDEO)
    with extra_queue(testbed.ovs, PORT, queue_id, QueueRates(8000, 16000, 4)):
        wait_until(lambda: leaf_kind(PORT, queue_id) == "pfifo_head_drop", 2.0)
        dropped = {q: class_drops(PORT, q) for q in (queue_id, BEST_EFFORT_QUEUE_ID)}
        ip = testbed.session_ip("ue1", 1)
        flows = [(6.0, VIDEO, 7010), (25.0, BEST_EFFORT, 7011)]
        video, filler = in_processes(
            [
                (testbed.netns("edge1"), testbed.netns("ue1"), (ip, port), mbps, 2.5, dscp)
                for mbps, dscp, port in flows
            ]
        )
        lost = {q: class_drops(PORT, q) - before for q, before in dropped.items()}
    print(f"video {video.received} of {video.sent}, filler {filler.received} of {filler.sent}, "
          f"dropped {lost}")  # fmt: skip
    assert lost[BEST_EFFORT_QUEUE_ID] > 500
    assert (lost[queue_id], video.received) == (0, video.sent)
    assert filler.sent == filler.received + lost[BEST_EFFORT_QUEUE_ID]


def test_a_reservation_is_what_it_gets_beside_a_filler(testbed: Any) -> None:
    """Borrowing hides no small reservation: 5 reserved, 12 offered, 5 got."""
    with extra_queue(testbed.ovs, PORT, queue_of(VIDEO), QueueRates(5000, 16000, 4)):
        ip = testbed.session_ip("ue1", 1)
        # The filler starts with the video and outlasts it.
        flows = [(12.0, 2.5, VIDEO, 7012), (25.0, 3.5, BEST_EFFORT, 7013)]
        video, filler = in_processes(
            [
                (testbed.netns("edge1"), testbed.netns("ue1"), (ip, port), mbps, duration_s, dscp)
                for mbps, duration_s, dscp, port in flows
            ]
        )
    print(f"video {video.l2_mbps():.2f} of 5 reserved, filler {filler.l2_mbps():.2f}")
    assert video.l2_mbps() == pytest.approx(5, rel=0.05)


def test_elastic_queues_share_a_saturated_link_by_their_minima(testbed: Any) -> None:
    """0.5 beside 8 Mbit/s on 20: each gets its sixteenth and the rest, on real packets."""
    minima_kbps = {dscp_of(3, TrafficClass.ELASTIC): 500, VIDEO: 8000}
    with ExitStack() as queues:
        for dscp, kbps in minima_kbps.items():
            rates = QueueRates(kbps, 20_000, PRIORITY[TrafficClass.ELASTIC])
            queues.enter_context(extra_queue(testbed.ovs, PORT, queue_of(dscp), rates))
        ip = testbed.session_ip("ue1", 1)
        offered_mbps = (4.0, 24.0)
        arrivals = in_processes(
            [
                (testbed.netns("edge1"), testbed.netns("ue1"), (ip, 7014 + i), mbps, 4.0, dscp)
                for i, (dscp, mbps) in enumerate(zip(minima_kbps, offered_mbps, strict=True))
            ]
        )
    # While both were sending; each queue's remainder drains afterwards.
    start_s = max(a.times_s[0] for a in arrivals) + 0.7
    end_s = start_s + 2.5
    got = [a.l2_mbps_between(start_s, end_s) for a in arrivals]
    shares = [kbps / sum(minima_kbps.values()) for kbps in minima_kbps.values()]
    print(f"shares {[round(mbps / sum(got), 4) for mbps in got]} of {sum(got):.2f} Mbit/s")
    assert all(a.received < 0.95 * a.sent for a in arrivals), "a queue ran empty"
    # The smaller one sends 290 frames in that time; a round of the scheduler is eight.
    for mbps, share in zip(got, shares, strict=True):
        assert mbps / sum(got) == pytest.approx(share, rel=0.05)


def test_one_flooded_port_starves_no_other(testbed: Any) -> None:
    """The send-buffer cure: a full queue towards ue1, nothing lost towards ue2."""
    flood = threading.Thread(
        target=send_and_count,
        args=(testbed.netns("edge1"), testbed.netns("ue1"),
              (testbed.session_ip("ue1", 1), 7004), 100, 2.5, BEST_EFFORT),
    )  # fmt: skip
    flood.start()
    probes = send_and_count(
        testbed.netns("bg-src"), testbed.netns("ue2"), (testbed.session_ip("ue2", 1), 7005),
        1.2, duration_s=2.0, dscp=BEST_EFFORT, payload_bytes=200,
    )  # fmt: skip
    flood.join()
    print(f"probes beside a flood: {probes.received} of {probes.sent}")
    assert probes.received == probes.sent
