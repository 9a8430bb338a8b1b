"""Reading an ONNX file's operator set without the onnx package.

A running testbed has onnxruntime, which does not say what opset a file has; the
package `onnx` is there for training only.  ONNX is protobuf: a sequence of
(field number, wire type, value); only the fields needed are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

_OPSET_IMPORT = 8
"""ModelProto.opset_import"""
_DOMAIN, _VERSION = 1, 2
"""OperatorSetIdProto"""


class NotOnnx(ValueError):
    """The bytes are no protobuf message, or name no default operator set."""


def opset_of(content: bytes) -> int:
    """Version of the default operator set; raises `NotOnnx`."""
    for field, value in _fields(content):
        if field == _OPSET_IMPORT and isinstance(value, bytes):
            imported = dict(_fields(value))
            version = imported.get(_VERSION)
            if imported.get(_DOMAIN, b"") in (b"", b"ai.onnx") and isinstance(version, int):
                return version
    raise NotOnnx("names no operator set: it is not an ONNX model")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire_type = key & 7
        value: int | bytes
        if wire_type == 0:
            value, place = _varint(message, place)
        else:
            if wire_type == 2:
                size, place = _varint(message, place)
            elif wire_type in (1, 5):
                size = 8 if wire_type == 1 else 4
            else:
                raise NotOnnx(f"is no protobuf: wire type {wire_type} at byte {place}")
            if place + size > len(message):
                raise NotOnnx("is cut off")
            value, place = message[place : place + size], place + size
        yield key >> 3, value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value, place = value | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise NotOnnx("is no protobuf, or cut off")
