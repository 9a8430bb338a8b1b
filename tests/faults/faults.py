"""Faults of processes, control channel and data plane, as a table.

Each says what is done, when it counts as repaired, and whose packets may be lost
meanwhile; its name begins with its row in README.md.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.injections import (
    OURS,
    add_an_alien_flow,
    add_rogue_controller,
    always,
    black_hole,
    by_hand,
    change_a_flow,
    change_a_queue,
    claim_another_switch_s_name,
    clear_the_queues,
    delete_a_flow,
    flap,
    is_another,
    kill,
    kill_ryu_three_times,
    one_way,
    only_they_were_ended,
    original_is_kept,
    partition,
    reset_the_connections,
    rogue_is_gone,
    speak_badly,
    stop_while_it_starts,
    wire,
    wire_is_back,
)
from tests.faults.live import SETTLE_S, Live
from topologies.wire_faults import give_carrier, silence, take_carrier, unsilence

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


FAULTS = [
    Fault("1 controller killed three times", kill_ryu_three_times, always, "restarted"),
    Fault(
        "1 local controller killed", kill("local-edge1"), is_another("local-edge1"), "restarted",
        SETTLE_S,
    ),
    Fault(
        "1 user agents killed", kill("user-agents"), is_another("user-agents"), "restarted",
        SETTLE_S,
    ),
    Fault("2 controller stopped", kill("ryu", signal.SIGSTOP), is_another("ryu"), "hung", SETTLE_S),
    Fault("2 RIC stopped", kill("ric", signal.SIGSTOP), is_another("ric"), "hung", SETTLE_S),
    Fault(
        "2 RIC stopped while it starts", stop_while_it_starts("ric"), is_another("ric"), "hung",
        SETTLE_S,
    ),
    Fault("2 RIC killed", kill("ric"), is_another("ric"), "restarted", SETTLE_S),
    Fault(
        "4 vswitchd killed", kill("ovs-vswitchd"), is_another("ovs-vswitchd"), "ovs-vswitchd",
        SETTLE_S, lossless=(),
    ),
    Fault(
        "5 ovsdb-server killed", kill("ovsdb-server"), is_another("ovsdb-server"), "ovsdb-server",
        SETTLE_S,
    ),
    Fault(
        "6 control channel black-holed", black_hole, lambda live, _: live.settled(), "reconciled"
    ),
    Fault(
        "6 control connections reset", reset_the_connections, lambda live, _: live.settled(),
        "reconciled",
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
    Fault("12 wire flapping", flap, wire_is_back, "wire down", SETTLE_S, lossless=("ue2",)),
    Fault(
        "13 wire silent", wire(silence, unsilence), wire_is_back, "wire down", lossless=("ue2",)
    ),
    Fault(
        "13 wire silent one way", wire(one_way(silence), one_way(unsilence)), wire_is_back,
        "wire down", lossless=("ue2",),
    ),
    Fault("13 partition", partition, wire_is_back, "wire up", SETTLE_S, lossless=("ue2",)),
    Fault(
        "14 alien flow added by hand", add_an_alien_flow, always, "repaired", lossless=("ue1",),
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
        # The deletion stalls vswitchd until every BFD session has ended; ue1, whose packets do not
        # pass the bridge, must not be led over it when it comes back.
        "14 bridge deleted", lambda live: live.vsctl("del-br", "ap2"),
        lambda live, _: live.settled(), "bridge ap2 was deleted", SETTLE_S, lossless=("ue1",),
    ),
]  # fmt: skip
