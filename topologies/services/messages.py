"""Request and reply of a task service: one UDP datagram each.

A reply carries its session's counter, so that a client sees for itself whether the
session's state survived a migration, and who answered (epoch and host index).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_REQUEST = struct.Struct("!IIQHH")
_REPLY = struct.Struct("!IIQQQH16s")
_REQUEST_MAGIC = 0x484F5251
_REPLY_MAGIC = 0x484F5250


class Request(NamedTuple):
    """`reply_bytes`: UDP payload asked for."""

    session: int
    request_id: int
    reply_bytes: int


class Reply(NamedTuple):
    """`counter`: requests of this session that the state remembers; `digest` depends on all."""

    session: int
    request_id: int
    counter: int
    epoch: int
    host_index: int
    digest: bytes


REPLY_LEAST_BYTES = _REPLY.size


def pack_request(request: Request, payload_bytes: int) -> bytes:
    head = _REQUEST.pack(
        _REQUEST_MAGIC, request.session, request.request_id, request.reply_bytes, 0
    )
    return head.ljust(payload_bytes, b"\0")


def unpack_request(datagram: bytes) -> Request | None:
    """None for anything that is no request."""
    if len(datagram) < _REQUEST.size:
        return None
    magic, session, request_id, reply_bytes, _ = _REQUEST.unpack_from(datagram)
    return Request(session, request_id, reply_bytes) if magic == _REQUEST_MAGIC else None


def pack_reply(reply: Reply, payload_bytes: int) -> bytes:
    head = _REPLY.pack(
        _REPLY_MAGIC,
        reply.session,
        reply.request_id,
        reply.counter,
        reply.epoch,
        reply.host_index,
        reply.digest,
    )
    return head.ljust(payload_bytes, b"\0")


def unpack_reply(datagram: bytes) -> Reply | None:
    if len(datagram) < _REPLY.size:
        return None
    magic, *fields = _REPLY.unpack_from(datagram)
    return Reply(*fields) if magic == _REPLY_MAGIC else None
