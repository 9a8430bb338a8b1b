"""Wires are held as they were while vswitchd stands still, and no longer than that."""

from __future__ import annotations

from topologies.wire_watch import LONGEST_HOLD_S, WireWatch, sessions

SHOWN = """---- {name} ----
\tForwarding: true
\tDetect Multiplier: 3
\tLocal Flags: none
\tLocal Session State: {state}
\tLocal Diagnostic: No Diagnostic
\tRemote Flags: none
\tRemote Session State: up
"""


class Vswitchd:
    """Knows sessions and forced states, as ovs-appctl shows them."""

    def __init__(self, **states: str) -> None:
        self.states, self.forced = states, dict.fromkeys(states, "normal")
        self.now_s = 0.0
        self.watch = WireWatch(self.appctl, lambda: self.now_s)

    def appctl(self, command: str, *words: str) -> str:
        if command == "bfd/show":
            return "".join(SHOWN.format(name=n, state=s) for n, s in self.states.items())
        assert command == "bfd/set-forwarding"
        for name in [words[0]] if len(words) == 2 else list(self.forced):
            self.forced[name] = words[-1]
        return "OK"

    def after(self, seconds: float, **states: str) -> dict[str, str]:
        self.now_s += seconds
        self.states.update(states)
        self.watch.resume()
        return self.forced


def test_sessions_are_read_one_by_one() -> None:
    vswitchd = Vswitchd(ap1_2="up", core_1="down", ap1_3="init")
    shown = vswitchd.appctl("bfd/show")
    assert sessions(shown) == {"ap1_2": True, "core_1": False, "ap1_3": False}
    assert sessions("") == {}


def test_what_is_up_is_held_and_what_is_down_stays_down() -> None:
    vswitchd = Vswitchd(ap1_2="up", core_1="down")
    vswitchd.watch.hold()
    assert vswitchd.forced == {"ap1_2": "true", "core_1": "normal"}


def test_it_counts_again_once_all_held_are_up() -> None:
    vswitchd = Vswitchd(ap1_2="up", core_1="up")
    vswitchd.watch.hold()
    held = {"ap1_2": "true", "core_1": "true"}
    assert vswitchd.after(0.5) == held, "the stall may be still to come"
    assert vswitchd.after(2.0, ap1_2="down", core_1="down") == held
    assert vswitchd.after(1.0, ap1_2="up") == held
    assert set(vswitchd.after(1.0, core_1="up").values()) == {"normal"}


def test_a_wire_that_failed_meanwhile_is_noticed_in_the_end() -> None:
    vswitchd = Vswitchd(ap1_2="up")
    vswitchd.watch.hold()
    assert vswitchd.after(3.0, ap1_2="down") == {"ap1_2": "true"}
    assert vswitchd.after(LONGEST_HOLD_S) == {"ap1_2": "normal"}


def test_nobody_detours_over_a_bridge_that_is_not_ready() -> None:
    vswitchd, rules = Vswitchd(ap1_2="up", ap1_3="up"), []
    vswitchd.watch.hold(dead=["ap1_3", "air_1"], ready=lambda: bool(rules))
    assert vswitchd.after(3.0) == {"ap1_2": "true", "ap1_3": "false"}
    rules.append("all of them")
    assert set(vswitchd.after(0.1).values()) == {"normal"}


def test_nor_over_one_whose_sessions_had_ended_before_it_was_held() -> None:
    """A bridge was deleted: the stall ended all sessions, and the new one comes up first."""
    vswitchd, rules = Vswitchd(core_1="down", core_2="down"), []
    vswitchd.watch.hold(dead=["core_2"], ready=lambda: bool(rules))
    assert vswitchd.watch.is_held
    assert vswitchd.after(3.0, core_2="up") == {"core_1": "normal", "core_2": "false"}
    rules.append("all of them")
    assert set(vswitchd.after(0.1).values()) == {"normal"}
    assert not vswitchd.watch.is_held


def test_without_sessions_there_is_nothing_to_hold() -> None:
    vswitchd = Vswitchd()
    vswitchd.watch.hold(dead=["air_1"])
    assert not vswitchd.watch.is_held
