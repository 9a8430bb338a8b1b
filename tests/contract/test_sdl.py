"""One contract for the shared data layer: embedded, Debian's redis-server open and with the
documented access rules, and the SDK's methods over the API of a running RIC."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import holon_xapp
import pytest

from controller.store.errors import NotConnected
from controller.store.sdl import Sdl, open_store
from tests.conftest import free_port
from tests.contract.conftest import guarded_environment, redis_environment, redis_store
from tests.waiting import wait_until

NS = "a*n[s]"


def _over_the_api(request: pytest.FixtureRequest) -> Any:
    if os.geteuid() != 0:
        pytest.skip("a running RIC needs network namespaces, and they need root")
    ric = request.getfixturevalue("ric")
    token = ric.session.headers["Authorization"].split()[1]
    return holon_xapp.Sdl(holon_xapp.Settings(ric.url, token, "operator"))


@pytest.fixture(params=["embedded", "redis", "guarded", "api"])
def store(request: pytest.FixtureRequest) -> Iterator[Sdl]:
    if request.param == "embedded":
        made = open_store({})
    elif request.param == "api":
        made = _over_the_api(request)
    elif request.param == "guarded":
        made = open_store(guarded_environment(request.getfixturevalue("guarded_port")))
    else:
        made = redis_store(request.getfixturevalue("redis_port"))
    made.remove_all(NS)
    yield made
    made.close()


def test_found_keys_only_and_sorted(store: Sdl) -> None:
    store.set(NS, {"b": b"2", "a": b"\x00\xff", "c": b""})
    assert list(store.get(NS, {"c", "a", "missing"}).items()) == [("a", b"\x00\xff"), ("c", b"")]
    assert store.get(NS, "b") == {"b": b"2"}
    assert store.get("another", ["a"]) == {}
    assert store.get(NS, []) == {}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["ue1", "ue2", "ueX", "x*"]),
        ("ue?", ["ue1", "ue2", "ueX"]),
        ("ue[12]", ["ue1", "ue2"]),
        ("ue[^1]", ["ue2", "ueX"]),
        ("ue[0-9]", ["ue1", "ue2"]),
        (r"x\*", ["x*"]),
        ("UE1", []),
        ("ue", []),
    ],
)
def test_keys_are_found_by_glob(store: Sdl, pattern: str, found: list[str]) -> None:
    store.set(NS, {key: key.encode() for key in ("ue2", "ue1", "ueX", "x*")})
    assert store.find_keys(NS, pattern) == found
    assert store.find_and_get(NS, pattern) == {key: key.encode() for key in found}


def test_conditional_changes_tell_whether_they_were_made(store: Sdl) -> None:
    assert store.set_if_not_exists(NS, "k", b"1")
    assert not store.set_if_not_exists(NS, "k", b"2")
    assert not store.set_if(NS, "k", b"2", b"3")
    assert not store.set_if(NS, "missing", b"", b"3")
    assert store.set_if(NS, "k", b"1", b"3")
    assert not store.remove_if(NS, "k", b"1")
    assert store.get(NS, "k") == {"k": b"3"}
    assert store.remove_if(NS, "k", b"3")
    assert store.get(NS, "k") == {}


def test_removing(store: Sdl) -> None:
    store.set(NS, {"a": b"1", "b": b"2", "c": b"3"})
    store.set("another", {"a": b"1"})
    store.remove(NS, {"a", "missing"})
    assert store.find_keys(NS, "*") == ["b", "c"]
    store.remove_all(NS)
    assert store.find_keys(NS, "*") == []
    assert store.get("another", "a") == {"a": b"1"}
    store.remove_all("another")


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.set(NS, {"a": "text"}),
        lambda s: s.set(NS, {1: b"1"}),
        lambda s: s.set(NS, [("a", b"1")]),
        lambda s: s.set_if(NS, "a", b"1", 2),
        lambda s: s.set(7, {"a": b"1"}),
        lambda s: s.get(NS, [b"a"]),
        lambda s: s.add_member(NS, "g", "text"),
        lambda s: s.add_member(NS, "g", [1]),
        lambda s: s.find_keys(NS, 1),
    ],
)
def test_wrong_types_are_refused_and_change_nothing(store: Sdl, call: Any) -> None:
    store.set(NS, {"a": b"before"})
    with pytest.raises(TypeError):  # of which SdlTypeError is one
        call(store)
    assert store.find_and_get(NS, "*") == {"a": b"before"}


def test_groups(store: Sdl) -> None:
    store.remove_group(NS, "g")
    assert (store.get_members(NS, "g"), store.group_size(NS, "g")) == (set(), 0)
    store.add_member(NS, "g", {b"a", b"b"})
    store.add_member(NS, "g", b"b")
    assert store.get_members(NS, "g") == {b"a", b"b"}
    assert store.is_member(NS, "g", b"a")
    assert not store.is_member(NS, "g", b"z")
    store.remove_member(NS, "g", [b"a", b"z"])
    assert store.group_size(NS, "g") == 1
    store.remove_group(NS, "g")
    assert store.group_size(NS, "g") == 0


def test_an_event_is_published_only_when_its_change_is_made(store: Sdl) -> None:
    heard: list[tuple[str, list[str]]] = []
    store.subscribe_channel(NS, lambda channel, events: heard.append((channel, events)), ["c", "d"])
    store.set_and_publish(NS, {"c": "set", "other": "x"}, {"k": b"1"})
    assert not store.set_if_and_publish(NS, {"c": "no"}, "k", b"9", b"2")
    assert store.set_if_and_publish(NS, {"c": ["yes", "twice"]}, "k", b"1", b"2")
    assert not store.set_if_not_exists_and_publish(NS, {"c": "no"}, "k", b"1")
    assert not store.remove_if_and_publish(NS, {"c": "no"}, "k", b"1")
    store.remove_and_publish(NS, {"d": "removed"}, "k")
    store.remove_all_and_publish(NS, {"c": "all"})
    assert heard == []  # nobody handled events yet
    wait_until(lambda: (store.handle_events(), len(heard) == 4)[1], 3)
    assert heard == [("c", ["set"]), ("c", ["yes", "twice"]), ("d", ["removed"]), ("c", ["all"])]
    store.unsubscribe_channel(NS, ["c", "d"])
    store.set_and_publish(NS, {"c": "late"}, {"k": b"1"})
    assert store.handle_events() is None


def test_a_listener_hands_events_on_by_itself(store: Sdl) -> None:
    heard: list[str] = []
    store.subscribe_channel(NS, lambda _, events: heard.extend(events), "c")
    store.start_event_listener()
    store.set_and_publish(NS, {"c": "one"}, {"k": b"1"})
    wait_until(lambda: heard == ["one"], 3)


def test_a_lock_is_anothers_only_after_it_was_left_or_expired(store: Sdl) -> None:
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.wait()
        with store.get_lock_resource(NS, "lock", 5):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.get_lock_resource(NS, "lock", 5):
        entered.set()
        thread.join(timeout=0.1)
        order.append("first")
    thread.join(timeout=5)
    assert order == ["first", "second"]
    store.get_lock_resource(NS, "forgotten", 0.1).__enter__()
    with store.get_lock_resource(NS, "forgotten", 5):  # the one before expired
        pass


def test_it_says_whether_it_is_active(store: Sdl) -> None:
    assert store.is_active()


def test_redis_that_does_not_answer_is_one_clear_error() -> None:
    with pytest.raises(NotConnected):
        redis_store(free_port())


@pytest.mark.parametrize(("user", "password"), [("", ""), ("holon", "guessed"), ("me", "x")])
def test_a_guarded_redis_refuses_strangers_with_the_next_step(
    user: str, password: str, guarded_port: int
) -> None:
    with pytest.raises(NotConnected, match="DBAAS_SERVICE_PASSWORD") as caught:
        open_store(redis_environment(guarded_port, user, password))
    assert "guessed" not in str(caught.value)


def test_an_open_redis_is_told_from_a_guarded_one(redis_port: int, guarded_port: int) -> None:
    made = redis_store(redis_port)
    assert f"127.0.0.1:{redis_port} lets in anybody" in str(made.exposure)
    made.close()
    made = open_store(guarded_environment(guarded_port))
    assert made.exposure is None
    made.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DBAAS_SERVICE_PORT": "six"}, "a port number is 1 to 65535"),
        ({"DBAAS_SERVICE_PORT": "65536"}, "a port number is 1 to 65535"),
        ({"DBAAS_SERVICE_USER": "holon"}, "without DBAAS_SERVICE_PASSWORD"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_store({"DBAAS_SERVICE_HOST": "127.0.0.1", **changes})
