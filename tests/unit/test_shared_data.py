"""The RIC's part of the shared data layer: what it publishes, namespaces, limits, failures."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from controller.ric.callers import Caller
from controller.ric.errors import Conflict
from controller.ric.shared_data import (
    KEYS_MAX,
    NAMESPACES_MAX,
    STRATEGY,
    TWINS,
    XAPPS,
    SharedData,
    Snapshot,
    own_namespace,
)
from controller.store.embedded import EmbeddedSdl
from controller.store.errors import NotConnected
from controller.twins.twin import Attribute, Twin, updated

XAPP = Caller("planner", frozenset({"store"}))
OPERATOR = Caller("operator", frozenset(), is_operator=True)


def twin(name: str, version: int) -> Twin:
    one = Twin("slice", name)
    for _ in range(version):
        one = updated(one, {"users": Attribute(1.0, 1, None, "test")}, 1)
    return one


def snapshot(*twins: Twin, strategies: dict[str, Any] | None = None) -> Snapshot:
    return list(twins), strategies or {}, [{"xapp_name": "planner", "state": "running"}]


def shared() -> SharedData:
    return SharedData(EmbeddedSdl(), snapshot)


def test_only_what_changed_is_written_and_told() -> None:
    layer, heard = shared(), []
    layer.store.subscribe_channel(TWINS, lambda _, ids: heard.extend(ids), "slice")
    layer.publish(snapshot(twin("1-000001", 1), twin("2-000001", 1)))
    layer.publish(snapshot(twin("1-000001", 1), twin("2-000001", 2)))
    while layer.store.handle_events():
        pass
    assert heard == ["1-000001", "2-000001", "2-000001"]
    (key,) = layer.store.get(TWINS, "slice/2-000001")
    document = orjson.loads(layer.store.get(TWINS, key)[key])
    assert (document["version"], document["attributes"]["users"]["value"]) == (2, 1)
    assert layer.store.find_keys(XAPPS, "*") == ["planner"]


def test_what_ended_leaves_the_layer() -> None:
    layer = shared()
    layer.publish(snapshot(twin("1-000001", 1), twin("2-000001", 1), strategies={"a": 1, "b": 2}))
    layer.publish(snapshot(twin("1-000001", 1), strategies={"b": 3}))
    assert layer.store.find_keys(TWINS, "*") == ["slice/1-000001"]
    assert layer.store.find_and_get(STRATEGY, "*") == {"b": b"3"}


class Broken(EmbeddedSdl):
    """Refuses while `down`."""

    down = True

    def set_and_publish(self, ns: str, events: Any, values: Any) -> None:
        if self.down:
            raise NotConnected("nobody at 127.0.0.1:6379")
        super().set_and_publish(ns, events, values)


def test_a_store_that_does_not_answer_is_an_alarm_and_is_written_whole_afterwards() -> None:
    store = Broken()
    layer = SharedData(store, snapshot)
    layer.publish(snapshot(twin("1-000001", 1)))
    assert layer.alarm is not None
    assert "nobody at" in layer.alarm
    store.down = False
    layer.publish(snapshot(twin("1-000001", 1)))
    assert layer.alarm is None
    assert store.find_keys(TWINS, "*") == ["slice/1-000001"]


def test_an_xapps_namespaces_are_its_own() -> None:
    assert own_namespace(XAPP, TWINS) == f"xapp.planner.{TWINS}"
    assert own_namespace(OPERATOR, TWINS) == TWINS


def test_an_xapp_cannot_fill_the_memory() -> None:
    layer = shared()
    layer.reserve_room(XAPP, "n", [f"k{i}" for i in range(KEYS_MAX)])
    with pytest.raises(Conflict, match="keys at most"):
        layer.reserve_room(XAPP, "n", [f"k{i}" for i in range(KEYS_MAX + 1)])
    for i in range(NAMESPACES_MAX - 1):
        layer.reserve_room(XAPP, f"n{i}", ["k"])
    with pytest.raises(Conflict, match="namespaces"):
        layer.reserve_room(XAPP, "one more", ["k"])
    layer.reserve_room(OPERATOR, "one more", [f"k{i}" for i in range(KEYS_MAX + 1)])
