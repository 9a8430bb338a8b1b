"""The datapath's contract: what slices may rely on, the same in userspace and in kernel mode.

Real Ryu, real rules, real packets.  A mode that this machine lacks is skipped with the
reason; `./testbed.sh vm test` runs kernel mode in a virtual machine.  Rates are low enough
for an emulated processor, so that both modes keep the same tolerances.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from controller.contracts.addressing import CENTRE_IP, GATEWAY_MAC, service_ip, session_ip
from controller.contracts.slices import (
    BEST_EFFORT_QUEUE_ID,
    CONTROL_QUEUE_ID,
    TrafficClass,
    dscp_of,
    queue_of,
)
from controller.counters import Counters
from tests.emulated import networks
from tests.emulated.conftest import OWN_REVALIDATE_MS, REVALIDATE_MS
from tests.emulated.enforced import (
    STREAM,
    TASK,
    UE1_CONTROL,
    UE1_VIDEO,
    Enforced,
    control,
    enforced,
    video,
)
from tests.emulated.paced_udp import HEADER_BYTES, Arrivals, in_processes, send_and_count
from tests.emulated.queue_figures import class_figures
from topologies.datapath import Datapath, missing_for_kernel_mode
from topologies.namespaces import socket_in
from topologies.results.validity import uncounted_allowed

pytestmark = pytest.mark.emulated

RATE_TOLERANCE_RATIO = 0.05
DELAY_TOLERANCE_RATIO, DELAY_TOLERANCE_MS = 0.05, 1.0
DOWN_MBPS, BACKHAUL_MBPS, WIRE_MS, LOSS_RATIO = 8.0, 5.0, 10.0, 0.2
ATTEMPTS = 3
PORT = 7000
DOWNLINK = "ap1_1"
"""The first access point's port towards the air."""
SIGNAL = service_ip(2, 2)
ELASTIC_QUEUE_ID = queue_of(dscp_of(1, TrafficClass.ELASTIC))
REAL_TIME_QUEUE_ID = queue_of(dscp_of(2, TrafficClass.REAL_TIME))
QUEUE_IDS = (0, CONTROL_QUEUE_ID, BEST_EFFORT_QUEUE_ID, ELASTIC_QUEUE_ID, REAL_TIME_QUEUE_ID)
FILLER_SOURCE, FILLER_SINK = service_ip(15, 0), session_ip(15, 0)


def scenario() -> dict[str, Any]:
    """Two cells, slow enough for an emulated processor; a service in each class."""
    document = networks.two_cells()
    document["access_points"][0] |= {
        "down_mbps": DOWN_MBPS, "up_mbps": DOWN_MBPS,
        "backhaul": {"rate_mbps": BACKHAUL_MBPS},
    }  # fmt: skip
    document["servers"][1]["link"] = {"delay_ms": WIRE_MS}
    document["services"].append(
        {"name": "signal", "slice": "control", "traffic_class": "control",
         "host": "cloud", "port": 5003}
    )  # fmt: skip
    document["initial_reservations"] = [
        {"access_point": "ap1", "slice": "video", "min_mbps": 2, "max_mbps": 4},
        {"access_point": "ap1", "slice": "control", "min_mbps": 1},
    ]
    return document


@pytest.fixture(scope="module", params=list(Datapath), ids=str)
def net(request: pytest.FixtureRequest, make_testbed: Callable[..., Any]) -> Iterator[Enforced]:
    missing = missing_for_kernel_mode() if request.param is Datapath.KERNEL else {}
    if missing:
        pytest.skip(
            f"this kernel has no {', '.join(missing)}: "
            "./testbed.sh vm test runs kernel mode in a virtual machine"
        )
    # An emulated processor has better things to do than to revalidate often.
    pace_ms = OWN_REVALIDATE_MS if request.param is Datapath.KERNEL else REVALIDATE_MS
    built = make_testbed(scenario(), datapath=request.param, revalidate_ms=pace_ms)
    with built as testbed, enforced(testbed) as network:
        yield network


def send(
    net: Enforced,
    source: str,
    sink: str,
    own_and_target: tuple[str, str],
    mbps: float,
    duration_s: float = 1.0,
    payload_bytes: int = 1200,
) -> Arrivals:
    """While the Enforcer's loop runs."""
    own, target = own_and_target
    testbed = net.testbed
    return net.in_background(
        lambda: send_and_count(
            testbed.netns(source), testbed.netns(sink), (target, PORT), mbps, duration_s,
            payload_bytes=payload_bytes, bind_ip=own,
        )
    )  # fmt: skip


def counters(net: Enforced) -> Counters:
    return net.run(net.enforcer.counters(settle=True))


def repeated(measure: Callable[[], Any], expected: Any) -> Any:
    """The first figure that is as expected, else the last of three.

    A busy machine's stall is no finding about the datapath; what `measure` asserts of
    packets, it asserts each time.
    """
    for _ in range(ATTEMPTS):
        figure = measure()
        if figure == expected:
            break
    return figure


def probes(net: Enforced, duration_s: float = 1.0) -> Arrivals:
    """200 a second from the user over the wire to the cloud."""
    mbps = 200 * (100 + HEADER_BYTES) * 8 / 1e6
    return send(net, "ue1", "cloud", (UE1_CONTROL, TASK), mbps, duration_s, payload_bytes=100)


def test_inside_a_slice_everything_arrives_and_is_counted(net: Enforced) -> None:
    before = counters(net).slices[1]
    up = send(net, "ue1", "edge1", (UE1_VIDEO, STREAM), 1.0)
    down = send(net, "edge1", "ue1", (STREAM, UE1_VIDEO), 1.0)
    after = counters(net).slices[1]
    sent = up.sent + down.sent
    assert (up.received, down.received) == (up.sent, down.sent)
    assert (after.entered - before.entered, after.delivered - before.delivered) == (sent, sent)


def test_between_slices_nothing_arrives_and_all_is_counted(net: Enforced) -> None:
    user = net.testbed.inventory.host("ue1")
    ip = IP(src=UE1_VIDEO, dst=TASK) / UDP(sport=PORT, dport=PORT) / Raw(b"x" * 64)
    frame = bytes(Ether(src=user.mac, dst=GATEWAY_MAC) / ip)
    before = counters(net)
    listening = socket_in(net.testbed.netns("cloud"), socket.AF_INET, socket.SOCK_DGRAM)
    raw = socket_in(user.netns_path, socket.AF_PACKET, socket.SOCK_RAW)
    with listening, raw:
        listening.bind((TASK, PORT))
        listening.setblocking(False)
        raw.bind((user.interface, 0))
        for _ in range(20):
            raw.send(frame)
        after = counters(net)
        with pytest.raises(BlockingIOError):
            listening.recv(2048)
    assert after.slices[1].violations - before.slices[1].violations == 20
    assert after.slices[2].entered == before.slices[2].entered


def test_a_queue_s_maximum(net: Enforced) -> None:
    """Of a link without a meter: what it does not pass, its queue drops and counts."""
    expected_mbps = pytest.approx(BACKHAUL_MBPS, rel=RATE_TOLERANCE_RATIO)
    assert repeated(lambda: flooded_queue_mbps(net), expected_mbps) == expected_mbps


def flooded_queue_mbps(net: Enforced) -> float:
    before = counters(net)
    arrivals = send(
        net, "bg-src", "bg-sink", (FILLER_SOURCE, FILLER_SINK), 1.5 * BACKHAUL_MBPS, 3.0
    )
    after = counters(net)
    dropped = {q: after.shared_queue_drops[q] - before.shared_queue_drops[q] for q in (0, 1, 2)}
    metered = after.slices[15].meter_drops - before.slices[15].meter_drops
    measured_mbps = arrivals.l2_mbps(skip_s=1.0)
    offered = 1.5 * BACKHAUL_MBPS * 3.0 * 1e6 / 8 / (1200 + HEADER_BYTES)
    print(f"queue: {measured_mbps:.2f} of {BACKHAUL_MBPS} Mbit/s, dropped {dropped}, {metered}, "
          f"sent {arrivals.sent} of {offered:.0f}")  # fmt: skip
    # A queue in the network drops; it does not hold its sender back.
    assert arrivals.sent == pytest.approx(offered, rel=0.1)
    assert (metered, dropped[0], dropped[1]) == (0, 0, 0)
    assert arrivals.sent == arrivals.received + dropped[BEST_EFFORT_QUEUE_ID]
    return measured_mbps


def test_a_meter_s_rate_changes_live(net: Enforced) -> None:
    """2, then 4 Mbit/s under one flow of 6; nobody but meter and queue drops, and they count."""
    ceilings_mbps = (2.0, 4.0)
    expected_mbps = pytest.approx(ceilings_mbps, rel=RATE_TOLERANCE_RATIO)
    assert repeated(lambda: metered_mbps(net, ceilings_mbps), expected_mbps) == expected_mbps


def metered_mbps(net: Enforced, ceilings_mbps: tuple[float, float]) -> tuple[float, float]:
    """What passed before and after the change."""
    change_after_s, duration_s = 3.0, 6.0

    def plan(ceiling_mbps: float) -> list[Any]:
        return [video(1000, round(ceiling_mbps * 1000)), control(1000)]

    async def change_under_traffic() -> tuple[Arrivals, float]:
        testbed = net.testbed
        sending = asyncio.create_task(
            asyncio.to_thread(
                in_processes,
                [(testbed.netns("edge1"), testbed.netns("ue1"), (UE1_VIDEO, PORT),
                  6.0, duration_s, 0, 1200, STREAM)],
            )
        )  # fmt: skip
        await asyncio.sleep(change_after_s)
        result = await net.enforcer.reserve("ap1", plan(ceilings_mbps[1]))
        assert result.confirmed, result.confirmations
        return (await sending)[0], result.hops_ns["confirmed"] / 1e9

    assert net.run(net.enforcer.reserve("ap1", plan(ceilings_mbps[0]))).confirmed
    before = counters(net).slices[1]
    arrivals, changed_s = net.run(change_under_traffic())
    after = counters(net).slices[1]
    metered = after.meter_drops - before.meter_drops
    queued = after.queue_drops - before.queue_drops
    first_s, last_s = arrivals.times_s[0], arrivals.times_s[-1]
    measured_mbps = (
        arrivals.l2_mbps_between(first_s + 0.5, changed_s - 0.3),
        arrivals.l2_mbps_between(changed_s + 0.5, last_s),
    )
    print(f"meter: {measured_mbps} of {ceilings_mbps} Mbit/s, {arrivals.sent} sent, "
          f"dropped {metered} + {queued}")  # fmt: skip
    assert metered > 100
    missing = arrivals.sent - arrivals.received - metered - queued
    assert 0 <= missing <= uncounted_allowed(net.testbed.inventory.datapath, 1)
    return measured_mbps


def test_a_wire_s_delay(net: Enforced) -> None:
    wire = net.testbed.network.wires[net.testbed.network.plan.port_of_host("cloud").interface]
    try:
        for delay_ms in (WIRE_MS, 3 * WIRE_MS):
            wire.set_delay(delay_ms)
            tolerance_ms = DELAY_TOLERANCE_RATIO * delay_ms + DELAY_TOLERANCE_MS
            expected_ms = pytest.approx(delay_ms, abs=tolerance_ms)
            assert repeated(lambda: median_delay_ms(net), expected_ms) == expected_ms
    finally:
        wire.set_delay(WIRE_MS)


def median_delay_ms(net: Enforced) -> float:
    arrivals = probes(net)
    median_ms = statistics.median(arrivals.delays_ms)
    print(f"delay: median {median_ms:.2f} ms, {arrivals.received} probes")
    assert arrivals.received == arrivals.sent
    return median_ms


def test_a_wire_s_loss(net: Enforced) -> None:
    """Of 1,000 probes, 20 % within four standard deviations of a fair coin."""
    wire = net.testbed.network.wires[net.testbed.network.plan.port_of_host("cloud").interface]
    try:
        wire.set_loss(LOSS_RATIO)
        arrivals = probes(net, 5.0)
    finally:
        wire.set_loss(0.0)
    deviation = (LOSS_RATIO * (1 - LOSS_RATIO) / arrivals.sent) ** 0.5
    print(f"loss: {arrivals.loss_ratio:.3f} of {LOSS_RATIO}, {arrivals.sent} probes")
    assert arrivals.loss_ratio == pytest.approx(LOSS_RATIO, abs=4 * deviation)


@pytest.mark.parametrize(
    ("source", "sink", "own", "target", "queue_id"),
    [
        ("centre", "ue1", CENTRE_IP, session_ip(0, 0), 0),
        ("cloud", "ue1", SIGNAL, UE1_CONTROL, CONTROL_QUEUE_ID),
        ("cloud", "ue1", TASK, UE1_CONTROL, REAL_TIME_QUEUE_ID),
        ("edge1", "ue1", STREAM, UE1_VIDEO, ELASTIC_QUEUE_ID),
        ("bg-src", "bg-sink", FILLER_SOURCE, FILLER_SINK, BEST_EFFORT_QUEUE_ID),
    ],
    ids=["infrastructure", "control", "real-time", "elastic", "best-effort"],
)
def test_each_class_leaves_through_its_own_queue(
    net: Enforced, source: str, sink: str, own: str, target: str, queue_id: int
) -> None:
    """Packets counted by the kernel's classes at the radio link."""

    def passed() -> dict[int, int]:
        return {q: class_figures(DOWNLINK, q)[0] for q in QUEUE_IDS}

    before = passed()
    arrivals = send(net, source, sink, (own, target), 0.2, 0.5, payload_bytes=100)
    through = {q: count - before[q] for q, count in passed().items()}
    others = {q: n for q, n in through.items() if q not in (0, queue_id)}
    assert arrivals.received == arrivals.sent > 20
    if queue_id == 0:  # ARP and the like pass there, too
        assert through[0] >= arrivals.sent
    else:
        assert through[queue_id] == arrivals.sent > through[0]
    assert not any(others.values())


def test_a_handover_loses_nothing(net: Enforced) -> None:
    """Make before break, there and back, under 200 packets a second."""

    async def move_while_sending() -> Arrivals:
        testbed = net.testbed
        sending = asyncio.create_task(
            asyncio.to_thread(
                send_and_count, testbed.netns("cloud"), testbed.netns("ue1"),
                (UE1_CONTROL, PORT), 0.23, 3.0, 0, 100, TASK,
            )
        )  # fmt: skip
        await asyncio.sleep(0.5)
        for cell_id in ("ap2", "ap1"):
            result = await net.enforcer.handover("ue1", cell_id)
            assert result.confirmed, result.confirmations
            await net.enforcer.settled()
        return await sending

    arrivals = net.run(move_while_sending())
    assert arrivals.received == arrivals.sent > 300
