"""SDL on Redis, with SDL's own key format (`{ns},key`), so that other SDL programs see the same.

Every change and its events are one Lua script: Redis runs it as a whole or not.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable as Function
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec, TypeVar

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from controller.contracts import shared_data_layer
from controller.contracts.shared_data_layer import RedisAccount
from controller.store.errors import BackendError, NotConnected, RejectedByBackend
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

TIMEOUT_S = 2.0
RETRIES, RETRY_PAUSE_S = 2, 0.05
"""Enough for a server that was started again between two calls; one that is gone, or refuses us,
is said to be so at once."""
EVENT_SEPARATOR = "___"
"""SDL joins several events of one channel with it."""

# KEYS: the keys; ARGV: the number of arguments of the change, these, then channel, message, ...
_TAIL = """
for i = ARGV[1] + 2, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
return 1"""
_SET = "for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1]) end" + _TAIL
_SET_IF = (
    "if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end "
    "redis.call('SET', KEYS[1], ARGV[3])" + _TAIL
)
_SET_NEW = "if redis.call('SETNX', KEYS[1], ARGV[2]) == 0 then return 0 end" + _TAIL
_REMOVE = "for _, key in ipairs(KEYS) do redis.call('DEL', key) end" + _TAIL
_REMOVE_IF = (
    "if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end redis.call('DEL', KEYS[1])" + _TAIL
)

P = ParamSpec("P")
R = TypeVar("R")


def _told(function: Function[P, R]) -> Function[P, R]:
    """Redis' errors as SDL's."""

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(*arguments, **keywords)
        except redis.AuthenticationError as error:
            hint = "DBAAS_SERVICE_USER and DBAAS_SERVICE_PASSWORD say who the RIC is"
            raise NotConnected(f"Redis does not let us in: {error}; {hint}") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise NotConnected(str(error)) from error
        except redis.ResponseError as error:
            raise RejectedByBackend(str(error)) from error
        except redis.RedisError as error:
            raise BackendError(str(error)) from error

    return call


def _escaped(ns: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in ns)


class RedisSdl(Sdl):
    """Raises `NotConnected` when nobody answers there, or not to this account."""

    def __init__(self, account: RedisAccount) -> None:
        self._account = account
        client: Any = redis.Redis(
            host=account.host,
            port=account.port,
            username=None if account.password is None else account.user,
            password=account.password,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(ConstantBackoff(RETRY_PAUSE_S), RETRIES),
        )
        self._redis = client
        self._events: Any = client.pubsub(ignore_subscribe_messages=True)
        self._callbacks: dict[str, tuple[str, Callback]] = {}
        self._ending = threading.Event()
        self._listener: threading.Thread | None = None
        self._ping()

    @_told
    def _ping(self) -> None:
        self._redis.ping()

    @_told
    def _run(
        self, script: str, ns: str, events: Events, keys: Iterable[str], arguments: Iterable[bytes]
    ) -> bool:
        own = list(arguments)
        said: list[str] = []
        for channel, messages in event_pairs(events):
            said += [_key(ns, channel), EVENT_SEPARATOR.join(messages)]
        names = [_key(ns, key) for key in keys]
        return bool(self._redis.eval(script, len(names), *names, len(own), *own, *said))

    # -- values -----------------------------------------------------------------

    def set_and_publish(self, ns: str, events: Events, values: Values) -> None:
        checked = checked_values(values)
        checked_text(ns)
        self._run(_SET, ns, events, checked, checked.values())

    def set_if_and_publish(self, ns: str, events: Events, key: str, old: bytes, new: bytes) -> bool:
        checked_text(ns, key)
        return self._run(_SET_IF, ns, events, [key], [checked_bytes(old), checked_bytes(new)])

    def set_if_not_exists_and_publish(
        self, ns: str, events: Events, key: str, value: bytes
    ) -> bool:
        checked_text(ns, key)
        return self._run(_SET_NEW, ns, events, [key], [checked_bytes(value)])

    def remove_and_publish(self, ns: str, events: Events, keys: Iterable[str]) -> None:
        checked_text(ns)
        self._run(_REMOVE, ns, events, checked_keys(keys), [])

    def remove_if_and_publish(self, ns: str, events: Events, key: str, value: bytes) -> bool:
        checked_text(ns, key)
        return self._run(_REMOVE_IF, ns, events, [key], [checked_bytes(value)])

    def remove_all_and_publish(self, ns: str, events: Events) -> None:
        self._run(_REMOVE, ns, events, self.find_keys(ns, "*"), [])

    @_told
    def get(self, ns: str, keys: Iterable[str]) -> dict[str, bytes]:
        checked_text(ns)
        wanted = sorted(set(checked_keys(keys)))
        if not wanted:
            return {}
        values = self._redis.mget([_key(ns, key) for key in wanted])
        return {k: v for k, v in zip(wanted, values, strict=True) if v is not None}

    @_told
    def find_keys(self, ns: str, pattern: str) -> list[str]:
        checked_text(ns, pattern)
        start = len(_key(ns, ""))
        match = f"{{{_escaped(ns)}}},{pattern}"
        found = self._redis.scan_iter(match=match, count=1000, _type="string")
        return sorted({name.decode()[start:] for name in found})

    # -- groups -----------------------------------------------------------------

    @_told
    def add_member(self, ns: str, group: str, members: Iterable[bytes]) -> None:
        checked_text(ns, group)
        if checked := checked_members(members):
            self._redis.sadd(_key(ns, group), *checked)

    @_told
    def remove_member(self, ns: str, group: str, members: Iterable[bytes]) -> None:
        checked_text(ns, group)
        if checked := checked_members(members):
            self._redis.srem(_key(ns, group), *checked)

    @_told
    def remove_group(self, ns: str, group: str) -> None:
        checked_text(ns, group)
        self._redis.delete(_key(ns, group))

    @_told
    def get_members(self, ns: str, group: str) -> set[bytes]:
        checked_text(ns, group)
        return set(self._redis.smembers(_key(ns, group)))

    # -- events -----------------------------------------------------------------

    @_told
    def subscribe_channel(self, ns: str, callback: Callback, channels: Iterable[str]) -> None:
        for channel in checked_keys(channels):
            self._callbacks[_key(ns, channel)] = (channel, callback)
            self._events.subscribe(_key(ns, channel))

    @_told
    def unsubscribe_channel(self, ns: str, channels: Iterable[str]) -> None:
        for channel in checked_keys(channels):
            self._callbacks.pop(_key(ns, channel), None)
            self._events.unsubscribe(_key(ns, channel))

    @_told
    def handle_events(self) -> tuple[str, list[str]] | None:
        if not self._events.subscribed:
            return None
        while (message := self._events.get_message(timeout=0.0)) is not None:
            known = self._callbacks.get(message["channel"].decode())
            if known is not None:
                channel, callback = known
                said = message["data"].decode().split(EVENT_SEPARATOR)
                callback(channel, said)
                return channel, said
            if not self._events.subscribed:
                return None
        return None

    def start_event_listener(self) -> None:
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()

    def _listen(self) -> None:
        while not self._ending.is_set():
            try:
                if self.handle_events() is None:
                    self._ending.wait(0.005)
            except NotConnected:
                self._ending.wait(0.2)

    # -- locks ------------------------------------------------------------------

    def get_lock_resource(
        self, ns: str, name: str, expiration_s: float
    ) -> AbstractContextManager[object]:
        checked_text(ns, name)
        return self._locked(_key(ns, name), expiration_s)

    @contextmanager
    def _locked(self, key: str, expiration_s: float) -> Iterator[None]:
        lock = self._redis.lock(key + ",lock", timeout=expiration_s, sleep=0.005)
        _told(lock.acquire)()
        try:
            yield
        finally:
            with contextlib.suppress(redis.exceptions.LockError):  # it expired: another's now
                lock.release()

    @property
    def exposure(self) -> str | None:
        """Asks the server anew; None also while it does not answer."""
        try:
            is_open = shared_data_layer.is_open(self._account)
        except OSError:
            return None
        return shared_data_layer.warning(self._account) if is_open else None

    def is_active(self) -> bool:
        try:
            self._ping()
        except NotConnected:
            return False
        return True

    def close(self) -> None:
        self._ending.set()
        if self._listener is not None:
            self._listener.join(timeout=2)
        self._events.close()
        self._redis.close()


def _key(ns: str, key: str) -> str:
    return f"{{{ns}}},{key}"
