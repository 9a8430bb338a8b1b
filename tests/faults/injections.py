"""What is done to a running testbed, and how one sees that it was repaired."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from controller.switch_program import DEBUG_OWNER, Kind, cookie_of
from tests.faults.live import SETTLE_S, Live
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

WIRE, LINK = ("ap1_2", "core_1"), ("ap1_3", "ap2_3")
FLAPS = 20
OURS = f"{cookie_of(Kind.PATH):#x}"
DEBUGGING = f"{DEBUG_OWNER << 48:#x}"

# -- processes -------------------------------------------------------------------


def kill(name: str, number: signal.Signals = signal.SIGKILL) -> Callable[[Live], int]:
    return lambda live: live.signal(name, number)


def is_another(name: str) -> Callable[[Live, int], bool]:
    return lambda live, old: live.pid(name) != old and live.settled()


def stop_while_it_starts(name: str) -> Callable[[Live], int]:
    """Kill it, and stop its successor before that has said a word."""

    def inject(live: Live) -> int:
        old = live.signal(name, signal.SIGKILL)
        wait_until(lambda: live.pid(name) != old, SETTLE_S)
        return live.signal(name, signal.SIGSTOP)

    return inject


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


def reset_the_connections(live: Live) -> None:
    """Of all switches at once, both ends."""
    before = dict(live.ryu()["switches"])
    port = str(live.inventory.openflow_tcp_port)
    live.in_namespace("ss", "--kill", "--tcp", "state", "established", "sport", "=", port)
    wait_until(lambda: not before.items() & dict(live.ryu()["switches"]).items(), 5.0)


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


def add_an_alien_flow(live: Live) -> None:
    """Above ours, and without a cookie: ue2 gets nothing any more."""
    match = downlink_rule(live, "ue2")
    live.ofctl("add-flow", live.bridge("ap2"), f"{match},priority=900,actions=drop")


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
            wait_until(lambda: _is_told_dead(live, WIRE[0]), 5.0)
        finally:
            heal(namespace, WIRE)

    return inject


def one_way(fault: Callable[..., None]) -> Callable[..., None]:
    return lambda namespace, ends: fault(namespace, ends[:1])


def partition(live: Live) -> None:
    """Both wires of ap1 silent at once: its user has no path, until they heal."""
    namespace, wires = named_path(live.run.namespace), (WIRE, LINK)
    try:
        for ends in wires:
            silence(namespace, ends)
        wait_until(lambda: all(_is_told_dead(live, ends[0]) for ends in wires), 5.0)
    finally:
        for ends in wires:
            unsilence(namespace, ends)


def flap(live: Live) -> None:
    """Ten times a second; the way back waits until the wire holds still."""
    namespace, ups = named_path(live.run.namespace), wire_ups(live)
    for _ in range(FLAPS):
        take_carrier(namespace, WIRE)
        time.sleep(0.07)
        give_carrier(namespace, WIRE)
        time.sleep(0.03)
    changes = wire_ups(live) - ups
    assert changes <= FLAPS / 5, f"{FLAPS} flaps, {changes} times back to the wire: not damped"


def wire_ups(live: Live) -> int:
    """How often the RIC was told that the near end of the wire is alive again."""
    lines = [line for records in live.audit().values() for line in records]
    return sum("wire up" in line and f'"{WIRE[0]}"' in line for line in lines)


def _is_told_dead(live: Live, interface: str) -> bool:
    return any(f"wire {interface}" in alarm for alarm in live.ric()["alarms"])


def wire_is_back(live: Live, _: Any) -> bool:
    return live.watched()
