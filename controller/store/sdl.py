"""The SDL interface: namespaces of keys with bytes, groups, publishing, locks.

The semantics are those of O-RAN SC's SDL: a change of several keys is atomic, `get`
and `find_and_get` return found keys only and sorted, conditional changes tell
whether they were made, and an event is published if and only if its change is made.
`open_store` chooses the backend: Redis when `DBAAS_SERVICE_HOST` is set, else the
embedded one, which lives and ends with its process.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from controller.contracts.shared_data_layer import redis_account
from controller.store.errors import SdlTypeError

Values = Mapping[str, bytes]
Events = Mapping[str, str | Iterable[str]]
"""channel -> event or events."""
Callback = Callable[[str, list[str]], None]


class Sdl(ABC):
    """Every method raises `SdlTypeError` for wrong types and `SdlException` for the backend."""

    @abstractmethod
    def set_and_publish(self, ns: str, events: Events, values: Values) -> None: ...
    @abstractmethod
    def set_if_and_publish(
        self, ns: str, events: Events, key: str, old: bytes, new: bytes
    ) -> bool: ...
    @abstractmethod
    def set_if_not_exists_and_publish(
        self, ns: str, events: Events, key: str, value: bytes
    ) -> bool: ...
    @abstractmethod
    def remove_and_publish(self, ns: str, events: Events, keys: Iterable[str]) -> None: ...
    @abstractmethod
    def remove_if_and_publish(self, ns: str, events: Events, key: str, value: bytes) -> bool: ...
    @abstractmethod
    def remove_all_and_publish(self, ns: str, events: Events) -> None: ...
    @abstractmethod
    def get(self, ns: str, keys: Iterable[str]) -> dict[str, bytes]: ...
    @abstractmethod
    def find_keys(self, ns: str, pattern: str) -> list[str]: ...
    @abstractmethod
    def add_member(self, ns: str, group: str, members: Iterable[bytes]) -> None: ...
    @abstractmethod
    def remove_member(self, ns: str, group: str, members: Iterable[bytes]) -> None: ...
    @abstractmethod
    def remove_group(self, ns: str, group: str) -> None: ...
    @abstractmethod
    def get_members(self, ns: str, group: str) -> set[bytes]: ...
    @abstractmethod
    def subscribe_channel(self, ns: str, callback: Callback, channels: Iterable[str]) -> None:
        """Events reach `callback(channel, events)` from `handle_events` or the listener."""

    @abstractmethod
    def unsubscribe_channel(self, ns: str, channels: Iterable[str]) -> None: ...
    @abstractmethod
    def handle_events(self) -> tuple[str, list[str]] | None:
        """Hands on one waiting event, if any, and returns it."""

    @abstractmethod
    def start_event_listener(self) -> None:
        """A thread that handles events until `close`."""

    @abstractmethod
    def get_lock_resource(
        self, ns: str, name: str, expiration_s: float
    ) -> AbstractContextManager[object]:
        """A lock; entering waits for it, and who forgets it loses it after `expiration_s`."""

    @property
    def exposure(self) -> str | None:
        """Who reads this store without having to be asked, in one line; None: nobody."""
        return None

    @abstractmethod
    def is_active(self) -> bool: ...
    @abstractmethod
    def close(self) -> None: ...

    # -- the same without events, and what follows from the above ----------------

    def set(self, ns: str, values: Values) -> None:
        self.set_and_publish(ns, {}, values)

    def set_if(self, ns: str, key: str, old: bytes, new: bytes) -> bool:
        return self.set_if_and_publish(ns, {}, key, old, new)

    def set_if_not_exists(self, ns: str, key: str, value: bytes) -> bool:
        return self.set_if_not_exists_and_publish(ns, {}, key, value)

    def remove(self, ns: str, keys: Iterable[str]) -> None:
        self.remove_and_publish(ns, {}, keys)

    def remove_if(self, ns: str, key: str, value: bytes) -> bool:
        return self.remove_if_and_publish(ns, {}, key, value)

    def remove_all(self, ns: str) -> None:
        self.remove_all_and_publish(ns, {})

    def find_and_get(self, ns: str, pattern: str) -> dict[str, bytes]:
        return self.get(ns, self.find_keys(ns, pattern))

    def is_member(self, ns: str, group: str, member: bytes) -> bool:
        return checked_bytes(member) in self.get_members(ns, group)

    def group_size(self, ns: str, group: str) -> int:
        return len(self.get_members(ns, group))


def checked_text(*texts: object) -> None:
    for text in texts:
        if type(text) is not str:
            raise SdlTypeError(f"{text!r}: names and keys are text")


def checked_bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise SdlTypeError(f"{type(value).__name__}: values and members are bytes")
    return value


def checked_keys(keys: object) -> list[str]:
    """A text alone is a key, as in SDL."""
    if isinstance(keys, str):
        return [keys]
    if not isinstance(keys, Iterable):
        raise SdlTypeError(f"{keys!r}: keys are texts")
    found = list(keys)
    checked_text(*found)
    return found


def checked_members(members: object) -> list[bytes]:
    if isinstance(members, bytes):
        return [members]
    if isinstance(members, str) or not isinstance(members, Iterable):
        raise SdlTypeError(f"{members!r}: members are bytes")
    return [checked_bytes(member) for member in members]


def checked_values(values: object) -> dict[str, bytes]:
    if not isinstance(values, Mapping):
        raise SdlTypeError(f"{values!r}: values are a mapping of text to bytes")
    checked_text(*values)
    return {key: checked_bytes(value) for key, value in values.items()}


def event_pairs(events: Events) -> list[tuple[str, list[str]]]:
    """(channel, events) in the order given."""
    pairs = []
    for channel, said in events.items():
        found = [said] if isinstance(said, str) else list(said)
        checked_text(channel, *found)
        pairs.append((channel, found))
    return pairs


def open_store(environment: Mapping[str, str] | None = None) -> Sdl:
    """Raises `NotConnected` when the Redis that is asked for does not answer or does not let the
    RIC in, `ValueError` for an environment that makes no sense."""
    account = redis_account(os.environ if environment is None else environment)
    if account is None:
        from controller.store.embedded import EmbeddedSdl

        return EmbeddedSdl()
    from controller.store.redis_backend import RedisSdl

    return RedisSdl(account)
