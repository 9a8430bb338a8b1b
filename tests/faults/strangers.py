"""Peers that speak OpenFlow badly, or in another switch's name: raw frames over a socket."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from topologies.namespaces import socket_in

VERSION = 4
HELLO, ECHO_REQUEST, FEATURES_REQUEST, FEATURES_REPLY, MULTIPART_REPLY = 0, 2, 5, 6, 19


def message(kind: int, body: bytes = b"", xid: int = 1) -> bytes:
    return struct.pack("!BBHI", VERSION, kind, 8 + len(body), xid) + body


def features_reply(dpid: int) -> bytes:
    return message(FEATURES_REPLY, struct.pack("!QIBB2xII", dpid, 0, 254, 0, 0x4F, 0))


EMPTY_ELEMENT_HELLO = message(HELLO, struct.pack("!HHI", 1, 0, 0))
"""Sixteen bytes: the element says it is 0 bytes long. Hangs a parser that believes it."""


def malformed() -> list[bytes]:
    """Each ends a connection of its own."""
    flow = struct.pack("!HBB", 0, 0, 0) + bytes(52)
    short_match = struct.pack("!HBB", 56, 0, 0) + bytes(44) + struct.pack("!HHI", 1, 60000, 0)
    instruction = struct.pack("!HBB", 64, 0, 0) + bytes(44) + struct.pack("!HHI", 1, 4, 0)
    flows = struct.pack("!HH4x", 1, 0)
    return [
        EMPTY_ELEMENT_HELLO,
        bytes([5]) + EMPTY_ELEMENT_HELLO[1:],
        message(HELLO)[:2] + struct.pack("!HI", 3, 1),
        message(HELLO) + message(MULTIPART_REPLY, flows + flow),
        message(HELLO) + message(MULTIPART_REPLY, flows + short_match),
        message(HELLO) + message(MULTIPART_REPLY, flows + instruction + bytes(8)),
        message(HELLO) + message(MULTIPART_REPLY, struct.pack("!HH4x", 7, 0) + bytes(16)),
        message(HELLO) + message(99),
        b"GET / HTTP/1.1\r\nHost: controller\r\n\r\n",
    ]


def mutated(count: int, seed: int) -> list[bytes]:
    """Whole conversations of a switch with a few bytes changed."""
    generator = random.Random(seed)
    good = message(HELLO) + features_reply(77) + message(MULTIPART_REPLY, bytes(64))
    found = []
    for _ in range(count):
        frame = bytearray(good)
        for _ in range(generator.randint(1, 6)):
            frame[generator.randrange(len(frame))] = generator.randrange(256)
        found.append(bytes(frame))
    return found


def speak_until(namespace: Path, port: int, ended: Callable[[], bool], pause_s: float) -> int:
    """One bad conversation after the other, `pause_s` apart; how many there were."""
    spoken = 0
    conversations = itertools.cycle([*malformed(), *mutated(60, seed=2)])
    while not ended():
        with connect(namespace, port) as peer, contextlib.suppress(OSError):
            peer.sendall(next(conversations))
        spoken += 1
        time.sleep(pause_s)
    return spoken


def connect(namespace: Path, port: int) -> socket.socket:
    opened = socket_in(namespace, socket.AF_INET, socket.SOCK_STREAM)
    opened.settimeout(10.0)
    opened.connect(("127.0.0.1", port))
    return opened


def is_closed(opened: socket.socket, within_s: float) -> bool:
    """Has the other side ended the conversation? What it still says is read and thrown away."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        opened.settimeout(max(0.01, deadline_s - time.monotonic()))
        try:
            if not opened.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False
