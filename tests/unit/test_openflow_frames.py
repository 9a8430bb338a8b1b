"""Which messages reach Ryu's parser: the walk over everything that carries a length."""

from __future__ import annotations

import struct

import pytest

from controller.openflow_frames import MalformedFrame, check, datapath_id, length_of
from tests.faults.strangers import features_reply, malformed, message, mutated


def admitted(stream: bytes) -> list[bytes]:
    """The whole messages of a conversation. Raises `MalformedFrame`."""
    found = []
    while len(stream) >= 8:
        size = length_of(stream[:8])
        if len(stream) < size:
            break
        check(stream[:size])
        found.append(stream[:size])
        stream = stream[size:]
    return found


def multipart(kind: int, body: bytes) -> bytes:
    return message(19, struct.pack("!HH4x", kind, 0) + body)


MATCH = struct.pack("!HHI", 1, 4, 0)
GOTO = struct.pack("!HHB3x", 1, 8, 5)
OUTPUT = struct.pack("!HHIH6x", 0, 16, 3, 0)
APPLY = struct.pack("!HH4x", 4, 8 + len(OUTPUT)) + OUTPUT


def flow(instructions: bytes) -> bytes:
    body = bytes(44) + MATCH + instructions
    return struct.pack("!HBB", 4 + len(body), 0, 0) + body


@pytest.mark.parametrize(
    "frame",
    [
        message(0),
        message(0, struct.pack("!HHI", 1, 8, 0x10)),
        features_reply(3),
        multipart(1, flow(GOTO) + flow(APPLY + GOTO)),
        multipart(1, b""),
        multipart(4, bytes(224)),
        multipart(7, struct.pack("!HBxI", 24, 3, 1) + struct.pack("!HHII4x", 16, 0, 2, 0xFFFFFFFF)),
        multipart(10, struct.pack("!HHI", 24, 1, 7) + struct.pack("!HHII4x", 1, 16, 9, 9)),
        message(21),
        message(2, b"echo"),
    ],
    ids=lambda f: f.hex()[:20],
)
def test_what_switches_really_say_passes(frame: bytes) -> None:
    assert admitted(frame) == [frame]


@pytest.mark.parametrize("conversation", malformed(), ids=lambda c: c[:16].hex())
def test_malformed_is_found(conversation: bytes) -> None:
    with pytest.raises(MalformedFrame):
        admitted(conversation)


@pytest.mark.parametrize(
    "inside", [bytes(8), struct.pack("!HH4x", 4, 4000), b"\0\4\0\x10" + bytes(12)]
)
def test_lengths_inside_instructions_are_walked(inside: bytes) -> None:
    with pytest.raises(MalformedFrame):
        admitted(multipart(1, flow(inside)))


def test_no_mutation_ends_in_anything_but_a_verdict() -> None:
    verdicts = set()
    for conversation in mutated(2000, seed=2):
        try:
            admitted(conversation)
            verdicts.add("passed")
        except MalformedFrame:
            verdicts.add("refused")
    assert verdicts == {"passed", "refused"}


def test_datapath_id_is_that_of_a_features_reply() -> None:
    assert datapath_id(features_reply(4711)) == 4711
    assert datapath_id(message(0)) is None
