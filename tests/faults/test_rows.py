"""Faults of processes, control channel and data plane, each injected into a running testbed.

The table `FAULTS` says what is done, when it counts as repaired, and whose packets may
be lost meanwhile.  Every one is also held against the same base: no frame crosses
slices, unaffected users lose nothing, flows, groups, meters and queues are exactly
what they were within 5 s, no process, interface or bridge is left over, and an audit
record tells of it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.contracts import rpc
from controller.switch_program import Kind, cookie_of
from tests.conftest import CommandLine
from tests.faults.live import SETTLE_S, Live, live_testbed
from tests.faults.strangers import (
    connect,
    features_reply,
    is_closed,
    malformed,
    message,
    mutated,
)
from tests.waiting import wait_until
from topologies.namespaces import named_path, socket_in
from topologies.wire_faults import give_carrier, silence, take_carrier, unsilence

SAME_WITHIN_S = 5.0
WIRE = ("ap1_2", "core_1")
OURS = f"{cookie_of(Kind.PATH):#x}"
BOTH = ("ue1", "ue2")


@dataclass(frozen=True)
class Fault:
    """`inject` returns what `repaired` is asked with; `lossless`: users who lose no packet."""

    name: str
    inject: Callable[[Live], Any]
    repaired: Callable[[Live, Any], object]
    audit: str
    within_s: float = 8.0
    """Noise of a busy machine included; benches judge the times."""
    lossless: tuple[str, ...] = BOTH


# -- processes -------------------------------------------------------------------


def kill(name: str, number: signal.Signals = signal.SIGKILL) -> Callable[[Live], int]:
    return lambda live: live.signal(name, number)


def is_another(name: str) -> Callable[[Live, int], bool]:
    return lambda live, old: live.pid(name) != old and live.settled()


def kill_ryu_three_times(live: Live) -> int:
    for _ in range(3):
        old = live.signal("ryu", signal.SIGKILL)
        wait_until(lambda old=old: is_another("ryu")(live, old), SETTLE_S)
    return old


# -- control channel -------------------------------------------------------------


def black_hole(live: Live) -> None:
    """Loopback of the switches' namespace drops everything; the data plane does not use it."""
    live.in_namespace("ip", "link", "set", "lo", "down")
    try:
        wait_until(lambda: not live.ric()["connected"], 8.0)
        assert any("not connected" in alarm for alarm in live.ric()["alarms"])
    finally:
        live.in_namespace("ip", "link", "set", "lo", "up")


def add_rogue_controller(live: Live) -> dict[str, Any]:
    """One that listens and greets, so that Open vSwitch really takes it for a controller."""
    numbers = dict(live.ryu()["switches"])
    listener = socket_in(named_path(live.run.namespace), socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]

    def greet() -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                peer.sendall(message(0))
                peer.recv(1)  # until Open vSwitch hangs up
                while peer.recv(65536):
                    pass

    threading.Thread(target=greet, daemon=True).start()
    rogue = ["--id=@rogue", "create", "Controller", f'target="tcp:127.0.0.1:{port}"']
    live.vsctl("--", *rogue, "--", "add", "Bridge", "ap1", "controller", "@rogue")
    return {"numbers": numbers, "listener": listener}


def rogue_is_gone(live: Live, rogue: dict[str, Any]) -> bool:
    gone = live.vsctl("get", "Bridge", "ap1", "controller").count("-") == 4  # one uuid
    if gone:
        rogue["listener"].close()
        assert live.ryu()["switches"] == rogue["numbers"], "the original was disconnected"
    return gone


def claim_another_switch_s_name(live: Live) -> dict[str, int]:
    numbers = dict(live.ryu()["switches"])
    port = live.inventory.openflow_tcp_port
    for dpid in (live.inventory.switch("core").dpid, 4711):
        with connect(named_path(live.run.namespace), port) as impostor:
            impostor.sendall(message(0) + features_reply(dpid))
            assert is_closed(impostor, 3.0), f"datapath id {dpid} was let in"
    return numbers


def original_is_kept(live: Live, numbers: dict[str, int]) -> bool:
    return dict(live.ryu()["switches"]) == numbers


def speak_badly(live: Live) -> tuple[int, dict[str, int]]:
    """Every malformed message, mutated conversations, half-open ones, one that never reads."""
    before = live.pid("ryu"), dict(live.ryu()["switches"])
    namespace, port = named_path(live.run.namespace), live.inventory.openflow_tcp_port
    for frames in malformed():
        with connect(namespace, port) as peer:
            peer.sendall(frames)
            assert is_closed(peer, 3.0), f"still open after {frames[:24].hex()}"
            assert live.ryu(), f"Ryu hangs after {frames[:24].hex()}"
    silent = [connect(namespace, port) for _ in range(20)]
    deaf = connect(namespace, port)
    deaf.settimeout(0.2)
    with contextlib.suppress(OSError):
        deaf.sendall(message(0) + message(2, bytes(1000)) * 5000)
    for conversation in mutated(60, seed=1):
        with connect(namespace, port) as peer, contextlib.suppress(OSError):
            peer.sendall(conversation)
    assert live.ryu(), "Ryu hangs after mutated messages"
    for peer in silent:
        assert is_closed(peer, 8.0), "a half-open connection is kept"
        peer.close()
    deaf.close()
    return before


def only_they_were_ended(live: Live, before: tuple[int, dict[str, int]]) -> bool:
    return (live.pid("ryu"), dict(live.ryu()["switches"])) == before


# -- what switches carry ---------------------------------------------------------


def by_hand(switch: str, *words: str) -> Callable[[Live], None]:
    """An ovs-ofctl command: verb, then its arguments after the bridge."""

    def inject(live: Live) -> None:
        live.ofctl(words[0], live.bridge(switch), *words[1:])

    return inject


def downlink_rule(live: Live, ue_id: str) -> str:
    return f"table=4,ip,nw_dst={live.inventory.user(ue_id).sessions[1].ip}"


def delete_a_flow(live: Live) -> None:
    live.ofctl("del-flows", live.bridge("ap2"), downlink_rule(live, "ue2"))


def change_a_flow(live: Live) -> None:
    live.ofctl("mod-flows", live.bridge("ap2"), downlink_rule(live, "ue2") + ",actions=drop")


def clear_the_queues(live: Live) -> None:
    live.vsctl("clear", "Port", "ap2_1", "qos")


def change_a_queue(live: Live) -> None:
    """The real-time queue of ap2's downlink, as a person with ovs-vsctl would."""
    qos = live.vsctl("get", "Port", "ap2_1", "qos").strip()
    row = live.vsctl("get", "QoS", qos, "queues:10").strip()
    live.vsctl("set", "Queue", row, "other_config:max-rate=12000000")


def always(live: Live, _: Any) -> bool:
    """Nothing but the base to wait for."""
    return True


# -- wires -----------------------------------------------------------------------


def wire(fault: Callable[..., None], heal: Callable[..., None]) -> Callable[[Live], None]:
    def inject(live: Live) -> None:
        namespace = named_path(live.run.namespace)
        fault(namespace, WIRE)
        try:
            with live.probe("ue1") as probe:
                wait_until(lambda: len(probe.right_to_left.arrived_ns) > 100, 5.0)
            wait_until(lambda: any("wire ap1_2" in a for a in live.ric()["alarms"]), 5.0)
        finally:
            heal(namespace, WIRE)

    return inject


def one_way(fault: Callable[..., None]) -> Callable[..., None]:
    return lambda namespace, ends: fault(namespace, ends[:1])


def wire_is_back(live: Live, _: Any) -> bool:
    return live.watched()


FAULTS = [
    Fault("1 controller killed three times", kill_ryu_three_times, always, "restarted"),
    Fault("2 controller stopped", kill("ryu", signal.SIGSTOP), is_another("ryu"), "hung", SETTLE_S),
    Fault("2 RIC stopped", kill("ric", signal.SIGSTOP), is_another("ric"), "hung", SETTLE_S),
    Fault("2 RIC killed", kill("ric"), is_another("ric"), "restarted", SETTLE_S),
    Fault(
        "local controller killed", kill("local-edge1"), is_another("local-edge1"), "restarted",
        SETTLE_S,
    ),
    Fault(
        "user agents killed", kill("user-agents"), is_another("user-agents"), "restarted",
        SETTLE_S,
    ),
    Fault(
        "4 vswitchd killed", kill("ovs-vswitchd"), is_another("ovs-vswitchd"), "ovs-vswitchd",
        SETTLE_S, lossless=(),
    ),
    Fault(
        # Forwarding goes on, but vswitchd forgets its BFD sessions for about 2 s while the
        # database is away, and a detour may then lead over a wire that is not yet greeted:
        # in some runs 0, in others some hundred packets are lost.
        "5 ovsdb-server killed", kill("ovsdb-server"), is_another("ovsdb-server"), "ovsdb-server",
        lossless=(),
    ),
    Fault(
        "6 control channel black-holed", black_hole, lambda live, _: live.settled(), "reconciled"
    ),
    Fault("8 second controller", add_rogue_controller, rogue_is_gone, "second controller"),
    Fault(
        "8 duplicate datapath id", claim_another_switch_s_name, original_is_kept,
        "refused connection",
    ),
    Fault("9 malformed OpenFlow", speak_badly, only_they_were_ended, "refused connection"),
    Fault(
        "12 wire without carrier", wire(take_carrier, give_carrier), wire_is_back, "wire down",
        lossless=("ue2",),
    ),
    Fault(
        "13 wire silent", wire(silence, unsilence), wire_is_back, "wire down", lossless=("ue2",)
    ),
    Fault(
        "13 wire silent one way", wire(one_way(silence), one_way(unsilence)), wire_is_back,
        "wire down", lossless=("ue2",),
    ),
    Fault(
        "14 flow of ours added by hand",
        by_hand("ap1", "add-flow", f"cookie={OURS},table=4,priority=9,in_port=3,actions=drop"),
        always, "repaired",
    ),
    Fault("14 flow deleted by hand", delete_a_flow, always, "repaired", lossless=("ue1",)),
    Fault("14 flow changed by hand", change_a_flow, always, "repaired", lossless=("ue1",)),
    Fault(
        "14 groups deleted by hand", by_hand("ap2", "del-groups"), always, "repaired",
        lossless=("ue1",),
    ),
    Fault(
        "14 meters deleted by hand", by_hand("ap2", "del-meters"), always, "repaired",
        lossless=("ue1",),
    ),
    Fault("14 queue changed by hand", change_a_queue, always, "queues", lossless=("ue1",)),
    Fault("14 queue tree cleared", clear_the_queues, always, "queue tree", lossless=("ue1",)),
    Fault(
        "14 bridge deleted", lambda live: live.vsctl("del-br", "ap2"),
        # Not lossless for ue1 either: making a bridge stalls vswitchd for longer than BFD
        # waits, and the detour leads over ap2, which greets before it has its rules.
        lambda live, _: live.settled(), "bridge ap2 was deleted", SETTLE_S, lossless=(),
    ),
]  # fmt: skip


@dataclass
class Base:
    """What is the same before and after every fault."""

    program: dict[str, list[str]]
    interfaces: set[str]
    processes: list[str]
    audited: dict[Path, int] = field(default_factory=dict)
    """Records before the fault."""


@pytest.fixture(scope="module")
def live(command_line: CommandLine) -> Iterator[Live]:
    with live_testbed(command_line) as running:
        yield running


@pytest.fixture(scope="module")
def base(live: Live) -> Base:
    return Base(live.program(), live.interfaces(), live.processes())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name.replace(" ", "-"))
def test_fault(live: Live, base: Base, fault: Fault) -> None:
    wait_until(live.settled, SETTLE_S)
    base.audited = {file: len(records) for file, records in live.audit().items()}
    probes = {ue_id: live.probe(ue_id) for ue_id in BOTH}
    with contextlib.ExitStack() as stack:
        for probe in probes.values():
            stack.enter_context(probe)
        injected = fault.inject(live)
        wait_until(lambda: fault.repaired(live, injected), fault.within_s)
        wait_until(lambda: told(live, base, fault.audit), SAME_WITHIN_S + fault.within_s)
        live.await_as_before(base.program, SAME_WITHIN_S + fault.within_s)
    lost = {ue_id: probe.lost() for ue_id, probe in probes.items()}
    print(f"lost {lost} of {len(probe.left_to_right.sent_ns)} each way")
    assert not any(lost[ue_id] for ue_id in fault.lossless), lost
    assert carried_again(live)
    assert live.leaked_frames() == 0
    assert live.interfaces() == base.interfaces
    wait_until(lambda: live.processes() == base.processes, SAME_WITHIN_S)


def told(live: Live, base: Base, words: str) -> bool:
    news = [r for file, records in live.audit().items() for r in records[base.audited[file] :]]
    return any(words in record for record in news)


def carried_again(live: Live) -> bool:
    """Both users reach the cloud and are reached by it."""
    for ue_id in BOTH:
        with live.probe(ue_id) as probe:
            wait_until(lambda p=probe: len(p.left_to_right.sent_ns) > 40, 5.0)
        if not (probe.left_to_right.arrived_ns and probe.right_to_left.arrived_ns):
            return False
    return True


def test_flows_of_others_are_left_alone_and_told(live: Live, base: Base) -> None:
    stranger = "cookie=0xbeef,table=4,priority=9,in_port=3,actions=drop"
    live.ofctl("add-flow", live.bridge("ap1"), stranger)
    try:
        wait_until(lambda: any("not ours" in a for a in live.ric()["alarms"]), SAME_WITHIN_S)
        assert "cookie=0xbeef" in live.ofctl("dump-flows", live.bridge("ap1"))
    finally:
        live.ofctl("del-flows", live.bridge("ap1"), "cookie=0xbeef/-1")
    live.await_as_before(base.program, SAME_WITHIN_S)


def test_alarms_and_repairs_are_in_status_and_metrics(live: Live) -> None:
    live.ofctl("del-flows", live.bridge("ap2"), downlink_rule(live, "ue2"))

    def shown() -> bool:
        return any("repaired ap2" in a for a in live.commands.json("status")["alarms"])

    wait_until(shown, SAME_WITHIN_S)
    metrics = live.commands.output("exec", "centre", "--", "curl", "-s", "127.0.0.1:8080/metrics")
    assert 'holon_repairs_total{kind="repaired"}' in metrics


def decide(live: Live, **document: Any) -> None:
    request = {"trace_id": "fault", "xapp": "test", **document}
    record = rpc.call(live.run.ric_socket, "decide", 10.0, request=request)
    assert record["verdict"] == "applied", record


def test_a_restarted_ric_goes_on_with_what_was_decided(live: Live) -> None:
    """Not with what the scenario says, and not only with what the switches happen to carry."""
    reservation = {"s_nssai": {"sst": 1, "sd": "000001"}, "traffic_class": "elastic"}
    rates = {"min_kbps": 11_000, "max_kbps": 22_000}
    decide(
        live,
        action="reserve",
        target={"cell_id": "ap1"},
        parameters={"reservations": [{**reservation, **rates}]},
    )
    decide(live, action="handover", target={"ue_id": "ue2"}, parameters={"cell_id": "ap1"})
    decided = live.run.intents.read_bytes()
    with live.run.intents.open("ab") as journal:
        journal.write(b'0badc0de {"kind": "reser')  # torn: the machine stopped while writing
    old = live.signal("ric", signal.SIGKILL)
    for switch in ("ap1", "ap2", "core", "air"):
        live.ofctl("del-meters", live.bridge(switch))  # and with them the flows that use them
    wait_until(lambda: is_another("ric")(live, old), SETTLE_S)
    meters = live.ofctl("dump-meters", live.bridge("ap1"))
    assert "rate=22000" in meters, meters
    users = live.commands.json("ue", "list")
    assert {u["ue_id"]: u["cell_id"] for u in users}["ue2"] == "ap1"
    assert live.run.intents.read_bytes().startswith(decided)
    assert carried_again(live)
