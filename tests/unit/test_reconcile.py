"""The differ: sends what is missing, nothing else; and the conversation with one switch."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.pacing import Pace
from controller.reconcile import Change, Strangers, difference, installed_program
from controller.switch_program import (
    DEBUG_OWNER,
    Flow,
    Meter,
    SwitchProgram,
    cookie_of,
    match_of,
)
from controller.switch_program import Kind as K
from controller.switch_session import ExchangeFailed, SwitchSession

flows = st.builds(
    Flow,
    table_id=st.integers(0, 5),
    priority=st.integers(0, 2),
    match=st.sampled_from([match_of({}), match_of({"in_port": 1}), match_of({"in_port": 2})]),
    cookie=st.sampled_from([cookie_of(K.PATH), cookie_of(K.ENTER, 1)]),
    actions=st.sampled_from([(), (("output", 1),), (("output", 2),)]),
    goto=st.sampled_from([None, 1]),
)
meters = st.builds(
    Meter,
    meter_id=st.integers(1, 4),
    rate_kbps=st.sampled_from([100, 200]),
    burst_kbit=st.just(120),
)


def program(flow_list: list[Flow], meter_list: list[Meter]) -> SwitchProgram:
    by_id = {m.meter_id: m for m in meter_list}
    return SwitchProgram("s", {f.key: f for f in flow_list}, by_id)


def applied(start: SwitchProgram, change: Change) -> SwitchProgram:
    """What a switch does with a change."""
    found = dict(start.flows)
    limits = dict(start.meters)
    for meter in (*change.meters_add, *change.meters_modify):
        limits[meter.meter_id] = meter
    for flow in change.flows_delete:
        del found[flow.key]
    for flow in (*change.flows_add, *change.flows_replace):
        found[flow.key] = flow
    for meter in change.meters_delete:
        del limits[meter.meter_id]
    return SwitchProgram(start.switch, found, limits)


programs = st.builds(program, st.lists(flows, max_size=6), st.lists(meters, max_size=4))


@given(programs, programs)
def test_applying_the_difference_gives_what_was_intended(
    have: SwitchProgram, want: SwitchProgram
) -> None:
    result = applied(have, difference(have, want))
    assert (result.flows, result.meters) == (want.flows, want.meters)


@given(programs)
def test_nothing_is_sent_when_nothing_differs(have: SwitchProgram) -> None:
    assert difference(have, have).is_empty


@given(programs)
def test_reading_back_what_was_sent_compares_equal(have: SwitchProgram) -> None:
    """Whatever generation the switch's cookies carry."""
    document = {
        "flows": [{**f.as_json(), "cookie": f.cookie | 77} for f in have.flows.values()],
        "groups": [],
        "meters": [m.as_json() for m in have.meters.values()],
    }
    read, strangers = installed_program("s", document)
    assert difference(read, have).is_empty and strangers == Strangers()


def test_alien_flows_go_by_their_cookie_and_those_for_debugging_stay() -> None:
    cookies = (0, 0x1234, 0x1234, DEBUG_OWNER << 48 | 7)
    flows = [{**Flow(0, 5, (), 0).as_json(), "cookie": cookie} for cookie in cookies]
    read, strangers = installed_program("s", {"flows": flows, "groups": [], "meters": []})
    assert not read.flows and strangers == Strangers((0, 0x1234), 1)
    change = Change("s", aliens_delete=strangers.alien_cookies)
    assert change.touches_flows and change.words() == "2 alien cookies removed"
    assert change.as_json()["aliens_delete"] == [0, 0x1234]


def test_changed_instructions_replace_and_keep_the_match() -> None:
    flow = Flow(4, 300, match_of({"in_port": 1}), cookie_of(K.PATH), metadata=(1 << 16, 1))
    moved = replace(flow, metadata=(2 << 16, 1))
    change = difference(program([flow], []), program([moved], []))
    assert change.flows_replace == (moved,) and not change.flows_add and not change.flows_delete
    assert change.words() == "1 flows replaced"


class FakeDatapath:
    """Answers every message after `send`, like a switch: in order, errors by xid."""

    def __init__(self, refuse: dict[int, str] | None = None, silent: bool = False) -> None:
        self.refuse, self.silent = refuse or {}, silent
        self.next_xid, self.writes = 100, 0
        self.session: SwitchSession | None = None

    def set_xid(self, message: Any) -> int:
        self.next_xid += 1
        message.xid = self.next_xid
        return self.next_xid

    def send(self, buffer: bytes) -> bool:
        self.writes += 1
        assert self.session is not None
        for index, xid in enumerate(int(x) for x in buffer.decode().split()):
            if self.silent:
                continue
            if index in self.refuse:
                self.session.fail(xid, self.refuse[index])
            else:
                self.session.deliver(xid, f"reply {index}")
        return True


class FakeMessage:
    xid = 0

    def serialize(self) -> None:
        self.buf = f"{self.xid} ".encode()


def session_with(datapath: FakeDatapath) -> SwitchSession:
    pace = Pace(lambda: None)
    session = SwitchSession(datapath, 1, lambda dp: FakeMessage(), threading.Event, pace)
    datapath.session = session
    return session


class TestConversation:
    def test_every_message_gets_its_own_replies(self) -> None:
        answers = session_with(FakeDatapath()).exchange([FakeMessage(), FakeMessage()])
        assert answers == [["reply 0"], ["reply 1"]]

    def test_a_batch_is_one_write(self) -> None:
        datapath = FakeDatapath()
        session_with(datapath).exchange([FakeMessage() for _ in range(20)])
        assert datapath.writes == 1

    def test_an_error_fails_the_exchange_with_the_switch_s_reason(self) -> None:
        session = session_with(FakeDatapath(refuse={1: "OFPMMFC_UNKNOWN_METER"}))
        with pytest.raises(ExchangeFailed, match="OFPMMFC_UNKNOWN_METER"):
            session.exchange([FakeMessage(), FakeMessage()])

    def test_silence_fails_within_the_timeout(self) -> None:
        session = session_with(FakeDatapath(silent=True))
        with pytest.raises(ExchangeFailed, match="no barrier reply within 0.05 s"):
            session.exchange([FakeMessage()], timeout_s=0.05)
