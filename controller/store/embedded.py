"""SDL in this process's memory: no server, gone with the process; safe between threads."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from controller.store.errors import RejectedByBackend
from controller.store.sdl import (
    Callback,
    Events,
    Sdl,
    Values,
    checked_bytes,
    checked_keys,
    checked_members,
    checked_text,
    checked_values,
    event_pairs,
)

_RETRY_S = 0.005


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """Redis' glob: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, and a backslash before what is meant so."""
    out, i = "", 0
    while i < len(pattern):
        char, i = pattern[i], i + 1
        if char == "*":
            out += ".*"
        elif char == "?":
            out += "."
        elif char == "\\" and i < len(pattern):
            out, i = out + re.escape(pattern[i]), i + 1
        elif char == "[" and (end := pattern.find("]", i + 1)) > 0:
            inside = pattern[i:end]
            negated = inside.startswith("^")
            body = re.escape(inside[negated:]).replace(r"\-", "-")
            out, i = out + f"[{'^' if negated else ''}{body}]", end + 1
        else:
            out += re.escape(char)
    try:
        return re.compile(out, re.DOTALL)
    except re.error as error:
        raise RejectedByBackend(f"pattern {pattern!r}: {error}") from None


class EmbeddedSdl(Sdl):
    def __init__(self) -> None:
        self._changing = threading.Condition()
        self._values: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._groups: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
        self._callbacks: dict[tuple[str, str], Callback] = {}
        self._waiting: deque[tuple[Callback, str, list[str]]] = deque()
        self._locks: dict[tuple[str, str], float] = {}
        self._listener: threading.Thread | None = None
        self._closed = False

    # -- values -----------------------------------------------------------------

    def set_and_publish(self, ns: str, events: Events, values: Values) -> None:
        checked, pairs = checked_values(values), self._checked(ns, events)
        with self._changing:
            self._values[ns].update(checked)
            self._publish(ns, pairs)

    def set_if_and_publish(self, ns: str, events: Events, key: str, old: bytes, new: bytes) -> bool:
        pairs = self._checked(ns, events, key)
        old, new = checked_bytes(old), checked_bytes(new)
        with self._changing:
            if self._values[ns].get(key) != old:
                return False
            self._values[ns][key] = new
            self._publish(ns, pairs)
        return True

    def set_if_not_exists_and_publish(
        self, ns: str, events: Events, key: str, value: bytes
    ) -> bool:
        pairs, value = self._checked(ns, events, key), checked_bytes(value)
        with self._changing:
            if key in self._values[ns]:
                return False
            self._values[ns][key] = value
            self._publish(ns, pairs)
        return True

    def remove_and_publish(self, ns: str, events: Events, keys: Iterable[str]) -> None:
        wanted, pairs = checked_keys(keys), self._checked(ns, events)
        with self._changing:
            for key in wanted:
                self._values[ns].pop(key, None)
            self._publish(ns, pairs)

    def remove_if_and_publish(self, ns: str, events: Events, key: str, value: bytes) -> bool:
        pairs, value = self._checked(ns, events, key), checked_bytes(value)
        with self._changing:
            if self._values[ns].get(key) != value:
                return False
            del self._values[ns][key]
            self._publish(ns, pairs)
        return True

    def remove_all_and_publish(self, ns: str, events: Events) -> None:
        pairs = self._checked(ns, events)
        with self._changing:
            self._values.pop(ns, None)
            self._publish(ns, pairs)

    def get(self, ns: str, keys: Iterable[str]) -> dict[str, bytes]:
        checked_text(ns)
        with self._changing:
            held = self._values[ns]
            return {key: held[key] for key in sorted(set(checked_keys(keys))) if key in held}

    def find_keys(self, ns: str, pattern: str) -> list[str]:
        checked_text(ns, pattern)
        wanted = glob_pattern(pattern)
        with self._changing:
            return sorted(key for key in self._values[ns] if wanted.fullmatch(key))

    # -- groups -----------------------------------------------------------------

    def add_member(self, ns: str, group: str, members: Iterable[bytes]) -> None:
        checked_text(ns, group)
        with self._changing:
            self._groups[ns, group].update(checked_members(members))

    def remove_member(self, ns: str, group: str, members: Iterable[bytes]) -> None:
        checked_text(ns, group)
        with self._changing:
            self._groups[ns, group].difference_update(checked_members(members))

    def remove_group(self, ns: str, group: str) -> None:
        checked_text(ns, group)
        with self._changing:
            self._groups.pop((ns, group), None)

    def get_members(self, ns: str, group: str) -> set[bytes]:
        checked_text(ns, group)
        with self._changing:
            return set(self._groups.get((ns, group), ()))

    # -- events -----------------------------------------------------------------

    @staticmethod
    def _checked(ns: str, events: Events, *keys: str) -> list[tuple[str, list[str]]]:
        checked_text(ns, *keys)
        return event_pairs(events)

    def _publish(self, ns: str, pairs: list[tuple[str, list[str]]]) -> None:
        for channel, said in pairs:
            callback = self._callbacks.get((ns, channel))
            if callback is not None:
                self._waiting.append((callback, channel, said))
        self._changing.notify_all()

    def subscribe_channel(self, ns: str, callback: Callback, channels: Iterable[str]) -> None:
        with self._changing:
            for channel in checked_keys(channels):
                self._callbacks[ns, channel] = callback

    def unsubscribe_channel(self, ns: str, channels: Iterable[str]) -> None:
        with self._changing:
            for channel in checked_keys(channels):
                self._callbacks.pop((ns, channel), None)

    def handle_events(self) -> tuple[str, list[str]] | None:
        with self._changing:
            if not self._waiting:
                return None
            callback, channel, said = self._waiting.popleft()
        callback(channel, said)  # may use the store itself
        return channel, said

    def start_event_listener(self) -> None:
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()

    def _listen(self) -> None:
        while not self._closed:
            with self._changing:
                while not self._waiting and not self._closed:
                    self._changing.wait()
            self.handle_events()

    # -- locks ------------------------------------------------------------------

    def get_lock_resource(
        self, ns: str, name: str, expiration_s: float
    ) -> AbstractContextManager[object]:
        checked_text(ns, name)
        return self._locked((ns, name), expiration_s)

    @contextmanager
    def _locked(self, key: tuple[str, str], expiration_s: float) -> Iterator[None]:
        while True:
            now_s = time.monotonic()
            with self._changing:
                if self._locks.get(key, 0.0) <= now_s:
                    mine_s = self._locks[key] = now_s + expiration_s
                    break
            time.sleep(_RETRY_S)
        try:
            yield
        finally:
            with self._changing:
                if self._locks.get(key) == mine_s:  # not expired and taken by another
                    del self._locks[key]

    def is_active(self) -> bool:
        return not self._closed

    def close(self) -> None:
        with self._changing:
            self._closed = True
            self._changing.notify_all()
        if self._listener is not None:
            self._listener.join(timeout=2)
