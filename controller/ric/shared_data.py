"""The RIC's place in the shared data layer: what it publishes there, and xApps' own namespaces.

Twins of slices and cells, strategies and xApps' states are written once a second from a thread,
so nothing of it stands in the loop's way; a store that does not answer costs an alarm and
nothing else.  Embedded by default, Redis when `DBAAS_SERVICE_HOST` is set: then other SDL
programs read the same.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from controller.contracts.shared_data_layer import TWINS
from controller.ric.callers import Caller
from controller.ric.errors import Conflict
from controller.store.errors import SdlException
from controller.store.sdl import Sdl
from controller.twins.twin import Twin, twin_document

log = logging.getLogger(__name__)

PUBLISH_PERIOD_S = 1.0
PUBLISH_PHASE_S = 0.42
"""Into each second of CLOCK_REALTIME: after twins completed, decisions were made and counters
read (`effects.POLL_PHASE_S`), since a thread that encodes holds the interpreter."""
STRATEGY, XAPPS = "holon.strategy", "holon.xapps"
"""Namespaces beside `TWINS`, whose keys are `slice/<sst-sd>` and `cell/<cell_id>`: a change is
told on the channel named like the key, and on `slice` or `cell`.  Keys of these: the slice, the
xApp's name."""
NAMESPACES_MAX = 32
KEYS_MAX = 1000
"""Of one xApp, and of one of its namespaces: it must not fill the RIC's memory."""

Snapshot = tuple[list[Twin], Mapping[str, Any], list[dict[str, Any]]]
"""(twins, strategy by slice, xApps' documents)"""


def own_namespace(caller: Caller, ns: str) -> str:
    """The operator's are as they are called; an xApp's are below its name, nobody else's."""
    return ns if caller.is_operator else f"xapp.{caller.name}.{ns}"


class SharedData:
    """`snapshot` is called on the event loop and must be quick."""

    def __init__(self, store: Sdl, snapshot: Callable[[], Snapshot]) -> None:
        self.store = store
        self._snapshot = snapshot
        self._versions: dict[str, int] = {}
        self._said: dict[tuple[str, str], bytes] = {}
        self._namespaces: dict[str, set[str]] = {}
        self._counting = threading.Lock()
        self.published = 0
        self.failures = 0
        self._failure: str | None = None
        self._exposure = store.exposure

    @property
    def alarm(self) -> str | None:
        """What keeps the store from taking twins, else what lets strangers read them there."""
        return self._failure or self._exposure

    async def run(self) -> None:
        while True:
            now_s = time.time()
            await asyncio.sleep(PUBLISH_PERIOD_S - (now_s - PUBLISH_PHASE_S) % PUBLISH_PERIOD_S)
            await asyncio.to_thread(self.publish, self._snapshot())

    def publish(self, snapshot: Snapshot) -> None:
        """What changed since the last time; never raises for what the store does."""
        try:
            self._publish(*snapshot)
            if self._failure is not None:  # it may be another server since
                self._exposure, self._failure = self.store.exposure, None
        except SdlException as error:
            self.failures += 1
            self._versions.clear()
            self._said.clear()
            if self._failure is None:
                log.warning("the shared data layer does not take twins: %r", error)
            self._failure = f"shared data layer: {type(error).__name__}: {error}"

    def _publish(
        self, twins: list[Twin], strategies: Mapping[str, Any], xapps: list[dict[str, Any]]
    ) -> None:
        now_ns = time.time_ns()
        keys = {f"{twin.kind}/{twin.twin_id}": twin for twin in twins}
        for key, twin in keys.items():
            if self._versions.get(key) != twin.version:
                document = orjson.dumps(twin_document(twin, now_ns))
                events = {twin.kind: twin.twin_id, key: twin.twin_id}
                self.store.set_and_publish(TWINS, events, {key: document})
                self._versions[key] = twin.version
                self.published += 1
        gone = self._versions.keys() - keys.keys()
        if gone:
            self.store.remove(TWINS, sorted(gone))
            for key in gone:
                del self._versions[key]
        self._keep(STRATEGY, strategies)
        self._keep(XAPPS, {xapp["xapp_name"]: xapp for xapp in xapps})

    def _keep(self, ns: str, documents: Mapping[str, Any]) -> None:
        """The namespace has exactly these; only what differs is written."""
        encoded = {key: orjson.dumps(document) for key, document in documents.items()}
        changed = {k: v for k, v in encoded.items() if self._said.get((ns, k)) != v}
        gone = [key for n, key in self._said if n == ns and key not in encoded]
        if changed:
            self.store.set(ns, changed)
        if gone:
            self.store.remove(ns, gone)
        self._said = {k: v for k, v in self._said.items() if k[0] != ns} | {
            (ns, key): value for key, value in encoded.items()
        }

    def reserve_room(self, caller: Caller, ns: str, keys: list[str]) -> None:
        """Raises `Conflict` when an xApp would keep more than it may."""
        if caller.is_operator:
            return
        with self._counting:
            mine = self._namespaces.setdefault(caller.name, set())
            if ns not in mine and len(mine) >= NAMESPACES_MAX:
                raise Conflict(f"{caller.name} has {NAMESPACES_MAX} namespaces", "use one of them")
            mine.add(ns)
        held = self.store.find_keys(ns, "*")
        if len({*held, *keys}) > KEYS_MAX:
            raise Conflict(f"a namespace holds {KEYS_MAX} keys at most", "remove some first")

    def close(self) -> None:
        self.store.close()
