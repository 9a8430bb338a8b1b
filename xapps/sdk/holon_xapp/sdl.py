"""The shared data layer as an xApp sees it: O-RAN SC's SDL methods, over the northbound API.

Names, arguments and results are those of `ricsdl`'s `SyncStorage`; namespaces are the xApp's
own, whatever they are called.  Its descriptor needs the scope `store`.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from holon_xapp.errors import ApiError, Unreachable
from holon_xapp.settings import Settings
from holon_xapp.stream import lines_of

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
LOCK_RETRY_S = 0.02
LOCKS = "-locks"
"""Locks of a namespace stand in one beside it."""

Events = Mapping[str, str | Iterable[str]]
Members = set[bytes]
Callback = Callable[[str, list[str]], None]


@dataclass(eq=False)
class _Subscription:
    ns: str
    channels: set[str]
    cb: Callback
    answer: requests.Response

    def wanted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Until nobody wants more: the RIC sends something at least every second.

        Closing the answer from another thread would wait for the read that is under way.
        """
        for chunk in chunks:
            if not self.channels:
                return
            yield chunk


class Sdl:
    """Raises `ApiError` for what is refused, `Unreachable`, and TypeError for wrong types."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = self._new_session()
        self._subscriptions: list[_Subscription] = []
        self._waiting: deque[tuple[Callback, str, list[str]]] = deque()
        self._arrived = threading.Condition()
        self._listener: threading.Thread | None = None
        self._closed = False

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # a proxy of the machine's must not stand between
        session.headers["Authorization"] = f"Bearer {self._settings.token}"
        return session

    def _do(self, operation: str, ns: str, **arguments: Any) -> Any:
        try:
            answer = self._session.post(
                f"{self._settings.url}/api/v1/sdl/{operation}",
                json={"ns": _name(ns), **arguments},
                timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S),
            )
        except requests.RequestException as error:
            raise Unreachable(f"SDL {operation}: {error}") from None
        return _checked(answer).json()["result"]

    # -- values -----------------------------------------------------------------

    def set(self, ns: str, data: Mapping[str, bytes]) -> None:
        self.set_and_publish(ns, {}, data)

    def set_and_publish(self, ns: str, events: Events, data: Mapping[str, bytes]) -> None:
        if not isinstance(data, Mapping):
            raise TypeError(f"{data!r}: a mapping of text to bytes was expected")
        values = {_name(key): _text(value) for key, value in data.items()}
        self._do("set", ns, values=values, events=_said(events))

    def set_if(self, ns: str, key: str, old: bytes, new: bytes) -> bool:
        return self.set_if_and_publish(ns, {}, key, old, new)

    def set_if_and_publish(self, ns: str, events: Events, key: str, old: bytes, new: bytes) -> bool:
        told = _said(events)
        return bool(self._do("set_if", ns, key=key, old=_text(old), new=_text(new), events=told))

    def set_if_not_exists(self, ns: str, key: str, data: bytes) -> bool:
        return self.set_if_not_exists_and_publish(ns, {}, key, data)

    def set_if_not_exists_and_publish(self, ns: str, events: Events, key: str, data: bytes) -> bool:
        made = self._do("set_if_not_exists", ns, key=key, new=_text(data), events=_said(events))
        return bool(made)

    def get(self, ns: str, keys: str | Iterable[str]) -> dict[str, bytes]:
        """Found keys only, sorted."""
        return _values(self._do("get", ns, keys=_list(keys)))

    def find_keys(self, ns: str, key_pattern: str) -> list[str]:
        return list(self._do("find_keys", ns, pattern=_name(key_pattern)))

    def find_and_get(self, ns: str, key_pattern: str) -> dict[str, bytes]:
        return _values(self._do("find_and_get", ns, pattern=key_pattern))

    def remove(self, ns: str, keys: str | Iterable[str]) -> None:
        self.remove_and_publish(ns, {}, keys)

    def remove_and_publish(self, ns: str, events: Events, keys: str | Iterable[str]) -> None:
        self._do("remove", ns, keys=_list(keys), events=_said(events))

    def remove_if(self, ns: str, key: str, data: bytes) -> bool:
        return self.remove_if_and_publish(ns, {}, key, data)

    def remove_if_and_publish(self, ns: str, events: Events, key: str, data: bytes) -> bool:
        return bool(self._do("remove_if", ns, key=key, old=_text(data), events=_said(events)))

    def remove_all(self, ns: str) -> None:
        self.remove_all_and_publish(ns, {})

    def remove_all_and_publish(self, ns: str, events: Events) -> None:
        self._do("remove_all", ns, events=_said(events))

    # -- groups -----------------------------------------------------------------

    def add_member(self, ns: str, group: str, members: bytes | Iterable[bytes]) -> None:
        self._do("add_member", ns, group=group, members=_members(members))

    def remove_member(self, ns: str, group: str, members: bytes | Iterable[bytes]) -> None:
        self._do("remove_member", ns, group=group, members=_members(members))

    def remove_group(self, ns: str, group: str) -> None:
        self._do("remove_group", ns, group=group)

    def get_members(self, ns: str, group: str) -> Members:
        return {base64.b64decode(member) for member in self._do("get_members", ns, group=group)}

    def is_member(self, ns: str, group: str, member: bytes) -> bool:
        return member in self.get_members(ns, group)

    def group_size(self, ns: str, group: str) -> int:
        return len(self.get_members(ns, group))

    # -- events -----------------------------------------------------------------

    def subscribe_channel(self, ns: str, cb: Callback, channels: str | Iterable[str]) -> None:
        """From its return on no event is missed; `handle_events` or the listener calls `cb`."""
        wanted = _list(channels)
        self.unsubscribe_channel(ns, wanted)
        answer = self._new_session().get(
            f"{self._settings.url}/api/v1/sdl/events",
            params={"ns": ns, "channel": wanted},
            stream=True,
            timeout=(CONNECT_TIMEOUT_S, None),
        )
        chunks = _checked(answer).iter_content(chunk_size=None)
        next(chunks)  # the line that says: subscribed
        subscription = _Subscription(ns, set(wanted), cb, answer)
        self._subscriptions.append(subscription)
        threading.Thread(target=self._receive, args=(subscription, chunks), daemon=True).start()

    def _receive(self, subscription: _Subscription, chunks: Iterator[bytes]) -> None:
        try:
            for line in lines_of(subscription.wanted(chunks)):
                said = json.loads(line)
                with self._arrived:
                    if said["channel"] in subscription.channels:
                        self._waiting.append((subscription.cb, said["channel"], said["events"]))
                        self._arrived.notify()
        except (requests.RequestException, OSError, AttributeError):
            pass  # the RIC ended: the next call says so
        finally:
            subscription.answer.close()

    def unsubscribe_channel(self, ns: str, channels: str | Iterable[str]) -> None:
        gone = set(_list(channels))
        for subscription in [s for s in self._subscriptions if s.ns == ns]:
            with self._arrived:
                subscription.channels.difference_update(gone)
            if not subscription.channels:
                self._subscriptions.remove(subscription)

    def handle_events(self) -> tuple[str, list[str]] | None:
        """Hands on one waiting event, if any, and returns it."""
        with self._arrived:
            if not self._waiting:
                return None
            callback, channel, events = self._waiting.popleft()
        callback(channel, events)
        return channel, events

    def start_event_listener(self) -> None:
        """A thread that handles events until `close`."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()

    def _listen(self) -> None:
        while not self._closed:
            with self._arrived:
                while not self._waiting and not self._closed:
                    self._arrived.wait()
            self.handle_events()

    # -- locks ------------------------------------------------------------------

    @contextmanager
    def get_lock_resource(self, ns: str, resource: str, expiration: float) -> Iterator[None]:
        """Waits for the lock; who forgets it loses it after `expiration` seconds."""
        mine = self._lock(ns + LOCKS, resource, expiration)
        try:
            yield
        finally:
            self.remove_if(ns + LOCKS, resource, mine)  # not if it expired and another took it

    def _lock(self, ns: str, name: str, expiration_s: float) -> bytes:
        while True:
            now_s = time.time()
            mine = f"{now_s + expiration_s:.6f} {secrets.token_hex(8)}".encode()
            if self.set_if_not_exists(ns, name, mine):
                return mine
            held = self.get(ns, name).get(name)
            is_expired = held is not None and float(held.split()[0]) <= now_s
            if held is not None and is_expired and self.set_if(ns, name, held, mine):
                return mine
            time.sleep(LOCK_RETRY_S)

    def is_active(self) -> bool:
        """Does the store answer?"""
        try:
            self.get("_", ["_"])
        except (ApiError, Unreachable):
            return False
        return True

    def close(self) -> None:
        for subscription in list(self._subscriptions):
            self.unsubscribe_channel(subscription.ns, list(subscription.channels))
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        if self._listener is not None:
            self._listener.join(timeout=2)
        self._session.close()


def _checked(answer: requests.Response) -> requests.Response:
    if answer.ok:
        return answer
    try:
        said = answer.json()
    except ValueError:
        said = {}
    message, hint = str(said.get("error", answer.text[:200])), str(said.get("hint", ""))
    if answer.status_code >= 500:
        raise Unreachable(f"{answer.status_code}: {message}")
    raise ApiError(answer.status_code, message, hint)


def _name(text: object) -> str:
    if type(text) is not str:
        raise TypeError(f"{text!r}: names and keys are text")
    return text


def _text(value: object) -> str:
    if type(value) is not bytes:
        raise TypeError(f"{type(value).__name__}: values and members are bytes")
    return base64.b64encode(value).decode()


def _values(found: Mapping[str, str]) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in found.items()}


def _list(items: str | Iterable[str]) -> list[str]:
    return [items] if isinstance(items, str) else [_name(item) for item in items]


def _members(members: bytes | Iterable[bytes]) -> list[str]:
    return [_text(m) for m in ([members] if isinstance(members, bytes) else members)]


def _said(events: Events) -> dict[str, list[str]]:
    return {channel: _list(said) for channel, said in events.items()}
