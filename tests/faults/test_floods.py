"""A user floods the network with whatever it likes: no frame goes to the controller, no table
grows, no switch dies, and nobody in another slice loses a packet."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from pathlib import Path

import pytest

from tests.emulated.enforced import Enforced
from tests.emulated.paced_udp import Arrivals, send_and_count
from tests.faults.frame_floods import (
    FLOODS,
    Varied,
    blast,
    frames_of,
    megaflows,
    packet_ins,
    tagged,
)
from tests.waiting import wait_until
from topologies.ovs import MEGAFLOW_LIMIT

FLOOD_S = 2.0
PROBES_S = 1.5
PROBE_MBPS = 1.0
MEGAFLOWS_LATE_RATIO = 1.5
"""The switch counts them twice a second and lowers its own limit when it is busy."""
PROBE_BYTES = 200


@pytest.mark.parametrize("kind", list(FLOODS))
def test_a_flood_stays_its_sender_s_problem(net: Enforced, kind: str, tmp_path: Path) -> None:
    testbed = net.testbed
    attacker = testbed.inventory.host("ue1")
    make, varied_at = FLOODS[kind]
    frames = frames_of(make, attacker, testbed.session_ip("ue1", 1))
    switches = [s.name for s in testbed.inventory.switches]
    rules = {name: len(net.flows(name)) for name in switches}
    pid = testbed.ovs.vswitchd_pid
    before = refused(net)
    bridges = {name: net.bridge(name) for name in switches}
    with packet_ins(bridges, tmp_path) as controller:
        sent, probes = under_flood(net, frames, varied_at)
        now, limit = megaflows(testbed.ovs.appctl("upcall/show"))
        assert controller.count() == 0
    counted = refused(net) - before
    print(f"{kind}: {sent} frames sent, {counted} refused, {now} of {limit} megaflows, "
          f"probes {probes.received} of {probes.sent}")  # fmt: skip
    assert sent > 10_000 and counted > 0
    assert limit <= MEGAFLOW_LIMIT and now <= MEGAFLOWS_LATE_RATIO * MEGAFLOW_LIMIT
    assert {name: len(net.flows(name)) for name in switches} == rules
    assert testbed.ovs.vswitchd_pid == pid and Path(f"/proc/{pid}").exists()
    assert probes.received == probes.sent


def refused(net: Enforced) -> int:
    """Frames dropped and counted, whatever the reason."""
    counters = net.run(net.enforcer.counters(settle=True))
    by_slice = sum(t.violations + t.misses for t in counters.slices.values())
    return int(
        by_slice + counters.security_drops + counters.unsupported_drops + counters.other_misses
    )


def under_flood(net: Enforced, frames: list[bytes], varied_at: Varied) -> tuple[int, Arrivals]:
    """(frames sent, arrivals of another slice's probes at its service), a process each."""
    testbed = net.testbed
    attacker = testbed.inventory.host("ue1")
    task = next(s for s in testbed.inventory.services if s.slice_id == 2)
    victim = (
        testbed.netns("ue2"), testbed.netns("edge1"), (task.address, 7100), PROBE_MBPS, PROBES_S,
        0, PROBE_BYTES, testbed.session_ip("ue2", 2),
    )  # fmt: skip
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
        flood = pool.submit(
            blast, attacker.netns_path, attacker.interface, frames, FLOOD_S, varied_at
        )
        probes = pool.submit(send_and_count, *victim)
        return flood.result(), probes.result()


def test_a_packet_to_the_controller_would_be_seen(net: Enforced, tmp_path: Path) -> None:
    """The count of 0 above means something."""
    attacker = net.testbed.inventory.host("ue1")
    wanted = "table=0,priority=65000,dl_vlan=99"
    with packet_ins({"air": net.bridge("air")}, tmp_path) as controller:
        net.ofctl("add-flow", net.bridge("air"), f"{wanted},actions=controller:128")
        try:
            frame = [tagged(attacker)]

            def seen() -> bool:
                # Again and again: the monitor takes its time to connect.
                blast(attacker.netns_path, attacker.interface, frame, 0.01)
                return controller.count() > 0

            wait_until(seen, 5.0)
        finally:
            net.ofctl("--strict", "del-flows", net.bridge("air"), wanted)
