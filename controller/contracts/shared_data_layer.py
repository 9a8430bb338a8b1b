"""Where the shared data layer's Redis is, by the environment, and whether it lets anybody in."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_PORT, DEFAULT_USER = 6379, "default"
PROBE_TIMEOUT_S = 2.0
TWINS = "holon.twins"
"""The namespace of slices' and cells' twins."""


@dataclass(frozen=True)
class RedisAccount:
    """Who the RIC is at which server. `password` None: it has none to show."""

    host: str
    port: int
    user: str = DEFAULT_USER
    password: str | None = field(default=None, repr=False)


def redis_account(environment: Mapping[str, str]) -> RedisAccount | None:
    """None: the embedded store. Raises `ValueError` for what cannot be meant.

    `DBAAS_SERVICE_HOST` and `_PORT` are O-RAN SDL's; it knows no credentials, so
    `DBAAS_SERVICE_USER` and `DBAAS_SERVICE_PASSWORD` are ours.
    """
    host = environment.get("DBAAS_SERVICE_HOST")
    if not host:
        return None
    said = environment.get("DBAAS_SERVICE_PORT") or str(DEFAULT_PORT)
    if not said.isascii() or not said.isdigit() or not 0 < int(said) < 65536:
        raise ValueError(f"DBAAS_SERVICE_PORT={said}: a port number is 1 to 65535")
    user = environment.get("DBAAS_SERVICE_USER") or DEFAULT_USER
    password = environment.get("DBAAS_SERVICE_PASSWORD") or None
    if password is None and user != DEFAULT_USER:
        raise ValueError(f"DBAAS_SERVICE_USER={user} without DBAAS_SERVICE_PASSWORD")
    return RedisAccount(host, int(said), user, password)


def is_open(account: RedisAccount) -> bool:
    """May somebody without a password read twins there? Raises `OSError` when nobody answers."""
    key = f"{{{TWINS}}},probe"
    place = (account.host, account.port)
    with socket.create_connection(place, timeout=PROBE_TIMEOUT_S) as stranger:
        stranger.sendall(f"GET {key}\r\n".encode())
        with stranger.makefile("rb") as answers:
            return answers.readline(512).startswith(b"$")


def warning(account: RedisAccount) -> str:
    """About an open server, with the next step."""
    return (
        f"the Redis at {account.host}:{account.port} lets in anybody without a password: whoever "
        "reaches it reads every slice's twins; see docs/shared-data-layer.md"
    )
