"""Row 3: Ryu or the RIC killed in the middle of a change of slices.

Every switch has all old or all new flows at once, and in the end the whole network is
as before or as asked: flows, meters, queues.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from controller.contracts.live_slices import current_inventory
from controller.enforcement import Enforcer
from tests.emulated.enforced import Enforced

SPEC: dict[str, Any] = {
    "kind": "slice.create",
    "slice": {
        "name": "gaming",
        "s_nssai": {"sst": 1, "sd": "0000aa"},
        "sla": {"guaranteed_mbps": 1.5},
        "users": ["ue1", "ue2", "ue3"],
        "services": [
            {"name": "play", "traffic_class": "real_time", "host": "edge1", "port": 6000},
            {"name": "chat", "traffic_class": "elastic", "host": "edge1", "port": 6001},
        ],
    },
}
FLOWS = 2
"""Step of a change, in order of sending: meters and queues came before."""
BACK_S = 15.0
_COUNTERS = re.compile(r"(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ?")
_GENERATION = re.compile(r"(cookie=0x\w+?)\w{8},")

Program = dict[str, list[str]]


def flows_of(net: Enforced) -> Program:
    """Without counters and the number of the change that wrote them."""
    return {
        switch: sorted(_GENERATION.sub(r"\1,", _COUNTERS.sub("", f)) for f in net.flows(switch))
        for switch in net.enforcer.network.switches
    }


def program(net: Enforced) -> Program:
    found = flows_of(net)
    for switch in net.enforcer.network.switches:
        meters = net.ofctl("dump-meters", net.bridge(switch)).splitlines()[1:]
        found[f"{switch} meters"] = sorted(meters)
    rows = net.testbed.ovs.vsctl(["--columns=other_config", "list", "Queue"])
    found["queues"] = sorted(line for line in rows.splitlines() if line.strip())
    return found


async def struck(
    net: Enforced, step: int, after_s: float, strike: Callable[[asyncio.Task[Any]], None]
) -> bool:
    """Create the slice and strike `after_s` into the step; was it confirmed nevertheless?"""
    switches = net.enforcer._switches
    send, sent = switches.send, 0

    async def send_and_strike(*arguments: Any) -> Any:
        nonlocal sent
        sent += 1
        sending = asyncio.ensure_future(send(*arguments))
        if sent == step:
            await asyncio.sleep(after_s)
            strike(changing)
        return await sending

    switches.send = send_and_strike  # type: ignore[method-assign]
    changing = asyncio.ensure_future(net.enforcer.change_slices(SPEC))
    try:
        return (await changing).result.confirmed
    except asyncio.CancelledError:
        return False
    finally:
        switches.send = send  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def both(net: Enforced) -> tuple[Program, Program]:
    """The network without the slice, and with it."""
    before = program(net)
    assert net.run(net.enforcer.change_slices(SPEC)).result.confirmed
    after = program(net)
    terminate(net)
    assert program(net) == before != after
    return before, after


def terminate(net: Enforced) -> None:
    slice_id = next(i for i, s in net.enforcer.state.slices.items() if s.slice.name == "gaming")
    document = {"kind": "slice.terminate", "slice_id": slice_id}
    assert net.run(net.enforcer.change_slices(document)).result.confirmed


def test_ryu_killed(net: Enforced, both: tuple[Program, Program]) -> None:
    """While bundles of flows are on their way, the meters confirmed already."""
    before, after = both
    confirmed = net.run(struck(net, FLOWS, 0.01, lambda _: net.kill_ryu()))
    torn = [
        switch
        for switch, flows in flows_of(net).items()
        if flows not in (before[switch], after[switch])
    ]
    assert torn == [], "part of a switch's flows is new, part is old"
    net.watch_until(lambda: not net.enforcer.connected_switches(), BACK_S)
    net.start_ryu()
    switches = len(net.enforcer.network.switches)
    net.watch_until(lambda: len(net.enforcer.connected_switches()) == switches, BACK_S)
    wanted = after if confirmed else before
    net.watch_until(lambda: program(net) == wanted, BACK_S)
    names = {s.slice.name for s in net.enforcer.state.slices.values()}
    assert ("gaming" in names) == confirmed
    if confirmed:
        terminate(net)


def test_ric_killed(net: Enforced, both: tuple[Program, Program]) -> None:
    """What nobody was told of is undone by the next."""
    before, _ = both

    async def killed_and_restarted() -> None:
        confirmed = await struck(net, FLOWS, 0.005, lambda change: change.cancel())
        assert not confirmed
        run = net.testbed.run
        second = Enforcer(current_inventory(run), run)
        await second.start()
        try:
            assert all(c.confirmed for c in await second.install())
        finally:
            await second.stop()

    watching = net.enforcer._watching
    assert watching is not None
    watching.cancel()  # a dead one repairs nothing
    net.run(killed_and_restarted())
    assert program(net) == before
