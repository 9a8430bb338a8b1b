"""The radio's rate on real packets: near and far, both directions, what is dropped is counted."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.contracts.decisions import Effect
from controller.contracts.radio_port import WayCount
from controller.ric.link_effect import judge_way
from tests.emulated import plain_forwarding
from tests.emulated.networks import two_cells
from tests.emulated.paced_udp import send_and_count
from tests.waiting import wait_until
from topologies.air_interface import quality
from topologies.errors import EmulationError
from topologies.namespaces import run
from topologies.radio import powers_dbm
from topologies.radio_shaper import RadioShaper
from topologies.radio_state import RadioState
from topologies.radio_updates import RadioUpdates
from topologies.scenario.radio import Tr38901Radio
from topologies.scenario.schema import Scenario

TOLERANCE_RATIO = 0.05
RADIO = {"model": "tr38901", "line_of_sight": "never", "shadowing": False}


def document() -> dict[str, Any]:
    """On a carrier of 5 MHz, so that places differ by less than the cells' own 20 and 12 Mbit/s."""
    scenario = two_cells(radio=RADIO, slicing=False)
    scenario["access_points"][0] |= {"bandwidth_mhz": 5, "subcarrier_spacing_khz": 15}
    return scenario


@pytest.fixture(scope="module")
def net(make_testbed: Callable[..., Any]) -> Iterator[tuple[Any, RadioShaper]]:
    with make_testbed(document()) as testbed:
        plain_forwarding.install(testbed.inventory, testbed.run.ovs)
        shaper = RadioShaper(testbed.inventory, 0.1)
        try:
            yield testbed, shaper
        finally:
            shaper.close()


def kbps_at(x_m: float) -> tuple[float, float]:
    scenario = Scenario.model_validate(document())
    assert isinstance(scenario.radio, Tr38901Radio)
    powers = dict(zip(("ap1", "ap2"), powers_dbm(scenario, (x_m, 0), 0.0), strict=True))
    link = quality(scenario, scenario.radio, powers, "ap1")
    return link.down_kbps, link.up_kbps


def test_a_user_far_from_its_access_point_gets_fewer_bits(net: tuple[Any, RadioShaper]) -> None:
    testbed, shaper = net
    stream, user_ip = testbed.service("stream").address, testbed.session_ip("ue1", 1)
    rates = []
    for x_m in (-230.0, -330.0):
        down_kbps, up_kbps = kbps_at(x_m)
        shaper.set("ue1", down_kbps, up_kbps)
        before = sum(shaper.drops().values())
        down = send_and_count(
            testbed.netns("edge1"), testbed.netns("ue1"), (user_ip, 7000),
            1.5 * down_kbps / 1000, 2.5, bind_ip=stream,
        )  # fmt: skip
        assert down.l2_mbps() == pytest.approx(down_kbps / 1000, rel=TOLERANCE_RATIO)
        dropped = sum(shaper.drops().values()) - before
        assert dropped == down.sent - down.received > 0
        up = send_and_count(
            testbed.netns("ue1"), testbed.netns("edge1"), (stream, 7000),
            1.5 * up_kbps / 1000, 2.5, bind_ip=user_ip,
        )  # fmt: skip
        assert up.l2_mbps() == pytest.approx(up_kbps / 1000, rel=TOLERANCE_RATIO)
        rates.append(down.l2_mbps())
    assert rates[0] > 1.5 * rates[1]


def test_a_limited_scheme_limits_the_packets_until_it_is_lifted(
    net: tuple[Any, RadioShaper], tmp_path: Path
) -> None:
    testbed, shaper = net
    state = RadioState.create(tmp_path / "radio.shm", testbed.inventory)
    scenario = Scenario.model_validate(document())
    updates = RadioUpdates(scenario, testbed.inventory, state, shaper)
    rates_kbps = {}
    for max_cqi in (None, 3):
        updates.adapt("ue1", max_cqi)
        updates.update(0.0)
        rates_kbps[max_cqi] = shaper.applied_kbps["ue1", "down"]
    assert rates_kbps[3] < 0.5 * rates_kbps[None], "the channel was no better than the limit"
    stream, user_ip = testbed.service("stream").address, testbed.session_ip("ue1", 1)
    down = send_and_count(
        testbed.netns("edge1"), testbed.netns("ue1"), (user_ip, 7000),
        2 * rates_kbps[3] / 1000, 2.5, bind_ip=stream,
    )  # fmt: skip
    assert down.l2_mbps() == pytest.approx(rates_kbps[3] / 1000, rel=TOLERANCE_RATIO)
    updates.adapt("ue1", None)
    updates.update(0.0)
    assert shaper.applied_kbps["ue1", "down"] == rates_kbps[None]


def test_a_radio_that_carries_less_than_its_scheme_is_refuted_by_its_packets(
    net: tuple[Any, RadioShaper],
) -> None:
    """Somebody changes the kernel's rate by hand: the shaper's own word for it is another."""
    testbed, shaper = net
    stream, user_ip = testbed.service("stream").address, testbed.session_ip("ue1", 1)
    shaper.set("ue1", 1000, 1000, exactly=True)
    shaper.confirm("ue1")
    port = testbed.network.plan.port_of_host("ue1").interface
    effects = {}
    for kept_kbps in (1000, 600):
        rate = f"rate {kept_kbps}kbit ceil {kept_kbps}kbit burst 6000 cburst 6000"
        run(f"tc class change dev {port} parent 1: classid 1:fffe htb {rate}".split())
        ends = testbed.netns("edge1"), testbed.netns("ue1"), (user_ip, 7000)
        enough = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_and_count, *ends, 2.0, 6.0, bind_ip=stream, enough=enough)
            wait_until(lambda: shaper.port("ue1").down.waiting_packets > 10, 3)
            counts = []

            def count(counts: list[WayCount] = counts) -> bool:
                counts.append(shaper.port("ue1").down)
                return counts[-1].taken_at_ns - counts[0].taken_at_ns > 2e9

            wait_until(count, 3)
            enough.set()
            arrived = sending.result()
        judged = judge_way(5000, counts)
        effects[kept_kbps] = judged.effect
        assert judged.detail["delivered_kbps"] == pytest.approx(kept_kbps, rel=TOLERANCE_RATIO)
        assert arrived.l2_mbps() == pytest.approx(kept_kbps / 1000, rel=TOLERANCE_RATIO)
    assert effects == {1000: Effect.VERIFIED, 600: Effect.REFUTED}
    with pytest.raises(EmulationError, match="the downlink of ue1 has 600 kbit/s, not 1000"):
        shaper.confirm("ue1")


def test_the_switch_leaves_the_shaper_alone_when_it_starts_again(
    net: tuple[Any, RadioShaper],
) -> None:
    testbed, shaper = net
    shaper.set("ue2", 1000, 1000)
    port = testbed.network.plan.port_of_host("ue2").interface
    testbed.ovs.restart_vswitchd()
    assert "htb 1: root" in run(["tc", "qdisc", "show", "dev", port])
