"""Who is let in: known switches, once each, that say in time who they are."""

from __future__ import annotations

import pytest

from controller.pacing import Pace
from controller.switch_admission import HANDSHAKE_S, MOST_STRANGERS, Admission, GuardedSocket
from tests.faults.strangers import EMPTY_ELEMENT_HELLO, features_reply, message


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Peer:
    """A socket that says what the test put in, then nothing more."""

    def __init__(self, *said: bytes) -> None:
        self.said = list(said)
        self.closed = False

    def recv(self, size: int) -> bytes:
        if not self.said:
            raise TimeoutError
        return self.said.pop(0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission([1, 2], clock, Pace(lambda: None), lambda line: None)


def connected(admission: Admission, *said: bytes) -> GuardedSocket:
    return admission.guard(Peer(*said), ("127.0.0.1", 1))


def read_all(guarded: GuardedSocket) -> bytes:
    """Until its end, or until it has nothing more to say."""
    found = b""
    try:
        while part := guarded.recv(8):
            found += part
    except TimeoutError:
        pass
    return found


def test_a_switch_of_the_run_is_passed_on_byte_by_byte(admission: Admission) -> None:
    said = message(0) + features_reply(1)
    assert read_all(connected(admission, said[:5], said[5:20], said[20:])) == said
    assert not admission.refused


def test_half_a_message_is_held_back(admission: Admission) -> None:
    said = message(0) + features_reply(1)
    assert read_all(connected(admission, said[:-1])) == message(0)


@pytest.mark.parametrize(("dpid", "reason"), [(1, "duplicate_switch"), (9, "unknown_switch")])
def test_a_second_and_an_unknown_datapath_id_are_refused(
    admission: Admission, dpid: int, reason: str
) -> None:
    original = connected(admission, features_reply(1))
    read_all(original)
    assert read_all(connected(admission, features_reply(dpid))) == b""
    assert admission.refused == {reason: 1}
    assert not original.ended


def test_after_its_end_a_switch_may_come_back(admission: Admission) -> None:
    first = connected(admission, features_reply(1))
    read_all(first)
    first.close()
    assert read_all(connected(admission, features_reply(1))) == features_reply(1)


def test_malformed_ends_only_that_connection(admission: Admission) -> None:
    original = connected(admission, features_reply(2))
    read_all(original)
    assert read_all(connected(admission, EMPTY_ELEMENT_HELLO)) == b""
    assert admission.refused == {"malformed": 1} and not original.ended


def test_who_stays_silent_is_let_go(admission: Admission, clock: Clock) -> None:
    guarded = connected(admission, message(0))
    assert read_all(guarded) == message(0)
    clock.now_s += HANDSHAKE_S + 0.1
    assert guarded.recv(8) == b""
    assert admission.refused == {"silent": 1}


def test_a_switch_may_be_silent_for_long(admission: Admission, clock: Clock) -> None:
    guarded = connected(admission, features_reply(1))
    read_all(guarded)
    clock.now_s += 100 * HANDSHAKE_S
    with pytest.raises(TimeoutError):
        guarded.recv(8)


def test_strangers_are_bounded(admission: Admission) -> None:
    crowd = [connected(admission, message(0)) for _ in range(MOST_STRANGERS + 1)]
    assert [g.ended for g in crowd] == [False] * MOST_STRANGERS + [True]
