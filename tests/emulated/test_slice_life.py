"""Slices come, change and go on a real Open vSwitch, under another slice's load."""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.contracts.addressing import service_ip, session_ip
from controller.contracts.decisions import Confirmation
from controller.contracts.live_slices import current_inventory, remember
from controller.enforcement import Enforcer
from controller.errors import AdmissionError, SliceConflictError, SliceError, UnknownTargetError
from controller.slice_changes import SliceOutcome
from controller.slice_life import Planned
from tests.emulated.enforced import STREAM, TASK, UE1_CONTROL, UE1_VIDEO, Enforced, enforced
from tests.emulated.networks import two_cells
from tests.emulated.paced_udp import Arrivals, send_and_count
from topologies import sessions
from topologies.errors import CommandError
from topologies.namespaces import run as run_command

PORT = 7000
CYCLES = 8
SPEC: dict[str, Any] = {
    "name": "gaming",
    "s_nssai": {"sst": 1, "sd": "0000aa"},
    "sla": {"guaranteed_mbps": 1.5},
    "user_max_mbps": 4,
    "users": ["ue1", "ue2"],
    "services": [
        {"name": "play", "traffic_class": "real_time", "host": "cloud", "port": 6000},
        {"name": "chat", "traffic_class": "elastic", "host": "edge1", "port": 6001},
    ],
}
GAMING_ID = 3
PLAY, UE2_GAMING = service_ip(GAMING_ID, 0), session_ip(GAMING_ID, 1)


@pytest.fixture(scope="module")
def net(make_testbed: Callable[..., Any]) -> Iterator[Enforced]:
    with make_testbed(two_cells()) as testbed, enforced(testbed) as network:
        yield network


def change(net: Enforced, document: dict[str, Any], dry_run: bool = False) -> SliceOutcome:
    return net.run(changing(net, document, dry_run))


async def changing(net: Enforced, document: dict[str, Any], dry_run: bool = False) -> SliceOutcome:
    """As the RIC does it: the hosts' addresses beside the switches."""

    async def addresses(planned: Planned) -> None:
        before, after = net.enforcer.inventory, planned.network.inventory
        for item in sessions.host_changes(before, after):
            await asyncio.to_thread(sessions.apply, item)

    return await net.enforcer.change_slices(document, dry_run, addresses)


def create(**changes: Any) -> dict[str, Any]:
    return {"kind": "slice.create", "slice": {**SPEC, **changes}}


def terminate(slice_id: int = GAMING_ID) -> dict[str, Any]:
    return {"kind": "slice.terminate", "slice_id": slice_id}


def carried(net: Enforced) -> dict[str, list[str]]:
    """Everything slices leave behind, as Open vSwitch, OVSDB, the kernel and hosts tell it."""
    found: dict[str, list[str]] = {}
    for switch in net.enforcer.network.switches:
        counters = r"(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ?"
        flows = (re.sub(counters, "", line) for line in net.flows(switch))
        # The last 32 bits of a cookie number the change that wrote the flow.
        generation = re.compile(r"(cookie=0x\w+?)\w{8},")
        found[f"flows {switch}"] = sorted(generation.sub(r"\1,", flow) for flow in flows)
        meters = net.ofctl("dump-meters", net.bridge(switch)).splitlines()[1:]
        found[f"meters {switch}"] = sorted(meters)
    rows = net.testbed.ovs.vsctl(["--columns=other_config", "list", "Queue"])
    found["queue rows"] = sorted(line for line in rows.splitlines() if line.strip())
    for port in net.testbed.inventory.ports:
        if port.rate_kbps is not None:
            shown = run_command(["tc", "class", "show", "dev", port.interface])
            classes = re.sub(r"leaf \w+: ?", "", shown).splitlines()
            found[f"classes {port.interface}"] = sorted(classes)
    for host in ("ue1", "ue2", "edge1", "cloud"):
        found[f"addresses {host}"] = sorted(
            net.testbed.in_host(host, "ip", "-o", "addr", "show").split()
        )
        found[f"routes {host}"] = sorted(net.testbed.in_host(host, "ip", "route").splitlines())
    return found


def probes(net: Enforced, duration_s: float) -> Arrivals:
    """500 small packets a second of slice 2 (real-time), over the delayed far link."""
    testbed = net.testbed
    payload_bytes = 100
    mbps = 500 * (payload_bytes + 42) * 8 / 1e6
    return send_and_count(
        testbed.netns("cloud"), testbed.netns("ue1"), (UE1_CONTROL, PORT), mbps, duration_s,
        payload_bytes=payload_bytes, bind_ip=TASK,
    )  # fmt: skip


def load(net: Enforced, duration_s: float) -> Arrivals:
    """More than slice 1 holds reserved (8 Mbit/s) into the same downlink."""
    testbed = net.testbed
    return send_and_count(
        testbed.netns("edge1"), testbed.netns("ue1"), (UE1_VIDEO, PORT), 12, duration_s,
        bind_ip=STREAM,
    )  # fmt: skip


class TestLife:
    def test_repeatedly_created_and_terminated_nothing_is_left_and_nobody_notices(
        self, net: Enforced
    ) -> None:
        async def cycles() -> list[SliceOutcome]:
            made = []
            for _ in range(CYCLES):
                made.append(await changing(net, create()))
                await asyncio.sleep(0.05)
                made.append(await changing(net, terminate()))
                await asyncio.sleep(0.05)
            return made

        async def under_load() -> tuple[Arrivals, Arrivals, list[SliceOutcome]]:
            loading = asyncio.create_task(asyncio.to_thread(load, net, 7.0))
            quiet = await asyncio.to_thread(probes, net, 2.0)
            probing = asyncio.create_task(asyncio.to_thread(probes, net, 3.5))
            await asyncio.sleep(0.2)
            made = await cycles()
            seen = await probing
            await loading
            return quiet, seen, made

        before = carried(net)
        quiet, seen, made = net.run(under_load())
        assert all(m.result.confirmed for m in made), [m.result for m in made]
        medians_ms = [statistics.median(a.delays_ms) for a in (quiet, seen)]
        print(f"probes {seen.received}/{seen.sent}, median {medians_ms} ms, {len(made)} changes")
        assert quiet.received == quiet.sent
        assert seen.sent > 1000 and seen.received == seen.sent
        # Beside an over-full slice and a change every 0.1 s; the machine's noise is milliseconds.
        assert medians_ms[1] <= 2 * medians_ms[0]
        assert carried(net) == before

    def test_a_created_slice_carries_its_members_packets_and_nobody_elses(
        self, net: Enforced
    ) -> None:
        assert change(net, create(users=["ue2"])).result.confirmed
        try:
            flows = "\n".join(net.flows("core"))
            assert PLAY in flows
            ping = net.testbed.in_host("ue2", "ping", "-c", "3", "-i", "0.05", "-W", "1", PLAY)
            assert "3 received" in ping
            counted = net.run(net.enforcer.counters(settle=True)).slices[GAMING_ID]
            assert (counted.entered, counted.delivered, counted.violations) == (6, 6, 0)
            with pytest.raises(CommandError, match="0 received"):  # no session, no rule
                net.testbed.in_host("ue1", "ping", "-c", "2", "-i", "0.05", "-W", "0.3", PLAY)
        finally:
            assert change(net, terminate()).result.confirmed
        assert GAMING_ID not in net.run(net.enforcer.counters()).slices

    def test_members_join_and_leave_with_their_addresses(self, net: Enforced) -> None:
        assert change(net, create(users=["ue1"])).result.confirmed
        try:
            swap = {"add_users": ["ue2"], "remove_users": ["ue1"]}
            document = {"kind": "slice.update", "slice_id": GAMING_ID, "changes": swap}
            assert change(net, document).result.confirmed
            assert UE2_GAMING in net.testbed.in_host("ue2", "ip", "addr")
            assert session_ip(GAMING_ID, 0) not in net.testbed.in_host("ue1", "ip", "addr")
            ping = net.testbed.in_host("ue2", "ping", "-c", "2", "-i", "0.05", "-W", "1", PLAY)
            assert "2 received" in ping
        finally:
            change(net, terminate())

    def test_coverage_is_queues_meters_and_packets(self, net: Enforced) -> None:
        """ue2 is in ap2: taken off it, its packets are dropped there and counted as misses."""
        assert change(net, create(users=["ue2"], cells=["ap2"])).result.confirmed
        try:
            covered = {"kind": "slice.cover", "slice_id": GAMING_ID, "cell_id": "ap1"}
            assert change(net, covered).result.confirmed
            uncovered = {"kind": "slice.uncover", "slice_id": GAMING_ID, "cell_id": "ap2"}
            assert change(net, uncovered).result.confirmed
            held = {r.slice_id for r in net.enforcer.reservations("ap2")}
            assert GAMING_ID not in held
            assert GAMING_ID in {r.slice_id for r in net.enforcer.reservations("ap1")}
            with pytest.raises(CommandError, match="0 received"):
                net.testbed.in_host("ue2", "ping", "-c", "3", "-i", "0.05", "-W", "0.3", PLAY)
            counted = net.run(net.enforcer.counters(settle=True)).slices[GAMING_ID]
            assert (counted.misses, counted.delivered) == (3, 0)
        finally:
            change(net, terminate())

    def test_resizing_changes_the_rates_that_open_vswitch_has(self, net: Enforced) -> None:
        assert change(net, create(services=[])).result.confirmed
        try:
            sized = {"reservations": [{"access_point": "ap1", "min_mbps": 2.5, "max_mbps": 3}]}
            document = {"kind": "slice.update", "slice_id": GAMING_ID, "changes": sized}
            rehearsed = change(net, document, dry_run=True).result.diff
            assert set(rehearsed["queues"]) == {"ap1_1"} and not rehearsed["flows"]
            rows = net.testbed.ovs.vsctl(["--columns=other_config", "list", "Queue"])
            assert 'min-rate="2500000"' not in rows
            assert change(net, document).result.diff == rehearsed
            rows = net.testbed.ovs.vsctl(["--columns=other_config", "list", "Queue"])
            assert 'min-rate="2500000"' in rows
        finally:
            change(net, terminate())


def test_a_restarted_ric_finds_the_slices_and_what_they_hold(net: Enforced) -> None:
    """By the run folder alone: its inventory knows only what was built."""
    run = net.testbed.run
    assert change(net, create()).result.confirmed
    sized = {"reservations": [{"access_point": "ap2", "min_mbps": 2, "max_mbps": 3}]}
    document = {"kind": "slice.update", "slice_id": GAMING_ID, "changes": sized}
    assert change(net, document).result.confirmed
    try:
        remember(run, list(net.enforcer.state.slices.values()))

        async def restarted() -> list[Confirmation]:
            second = Enforcer(current_inventory(run), run)
            assert second.state.slices == net.enforcer.state.slices
            await second.start()
            try:
                confirmations = list(await second.install())
                for cell in ("ap1", "ap2"):
                    assert second.reservations(cell) == net.enforcer.reservations(cell)
                assert 2000 in {r.min_kbps for r in second.reservations("ap2")}
                return confirmations
            finally:
                await second.stop()

        for confirmation in net.run(restarted()):
            assert confirmation.confirmed
            assert confirmation.detail.startswith(("nothing to change", "0 queues set"))
    finally:
        assert change(net, terminate()).result.confirmed
        run.live_slices.unlink()


class TestRefusals:
    @pytest.mark.parametrize(
        ("document", "error", "words"),
        [
            (create(name="video"), SliceConflictError, "named video lives already"),
            (create(s_nssai={"sst": 2}), SliceConflictError, "is slice control's"),
            (create(slice_id=2), SliceConflictError, r"10\.2\.0\.0/16\) is control's"),
            (create(slice_id=12), SliceError, "reserved"),
            (create(users=["ue9"]), UnknownTargetError, "unknown user 'ue9'"),
            (create(cells=["ap9"]), UnknownTargetError, "unknown cell 'ap9'"),
            (create(sla={"guaranteed_mbps": -1}), SliceError, "greater than 0"),
            (
                create(sla={"guaranteed_mbps": 17}),
                AdmissionError,
                "ap1: asked 17.0 Mbit/s, 8.0 left of 18.0 reservable, "
                "promised: video 8.0, control 2.0",
            ),
            (terminate(9), UnknownTargetError, "no slice with slice_id 9"),
            (terminate(0), SliceError, "infrastructure"),
        ],
    )
    def test_refused_with_the_reason_and_nothing_changed(
        self, net: Enforced, document: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        before = carried(net)
        with pytest.raises(error, match=words):
            change(net, document)
        assert carried(net) == before

    def test_without_ryu_what_was_half_made_is_undone(self, net: Enforced) -> None:
        before = carried(net)
        net.kill_ryu()
        net.enforcer.repairs.lines.clear()
        try:
            outcome = net.run(net.enforcer.change_slices(create()))
            assert not outcome.result.confirmed
            assert any("Ryu does not answer" in c.detail for c in outcome.result.confirmations)
            assert GAMING_ID not in net.enforcer.state.slices
            assert carried(net)["queue rows"] == before["queue rows"]
        finally:
            net.start_ryu()
        done = {"core", "air", "ap1", "ap2"}
        net.watch_until(
            lambda: done <= {e.split()[1].rstrip(":") for e in net.enforcer.repairs.lines}, 15
        )
        assert carried(net) == before
