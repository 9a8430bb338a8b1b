"""The journal of intents: what was decided and confirmed, so that a restarted RIC goes on with it.

One JSON document a line, appended and synced to the disk before a caller hears
"applied", never rewritten.  Each line carries a checksum: a torn last line (the
machine stopped in the middle of a write) and a damaged one are left out and told.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

Document = Mapping[str, Any]


class Journal:
    """Append-only. A full or broken disk raises an alarm and never stops control."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.alarm: str | None = None
        """What is wrong with it now, one line; None when all is well."""

    def read(self) -> list[dict[str, Any]]:
        """Every whole document, oldest first. Damage is in `alarm`."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self.alarm = f"{self._path.name}: {error.strerror}; intents start from the scenario"
            return []
        lines = content.split(b"\n")
        torn = lines.pop()
        found = [document for line in lines if (document := _document_of(line)) is not None]
        damaged = len(lines) - len(found)
        if torn:
            log.warning("%s ends in half a record, which is left out", self._path)
        if damaged:
            self.alarm = f"{self._path.name}: {damaged} damaged records are left out"
        return found

    def append(self, document: Document) -> None:
        """On the disk when this returns, or `alarm` says why not."""
        encoded = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        line = b"%08x %s\n" % (zlib.crc32(encoded), encoded)
        try:
            self._write(line)
        except OSError as error:
            self.alarm = f"{self._path.name}: {error.strerror or error}; intents are not kept"
            log.error("%s", self.alarm)
            self.close()
            return
        if self.alarm is not None and self.alarm.endswith("intents are not kept"):
            self.alarm = None

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # after half a record: a fresh line
        if os.write(self._descriptor, line) != len(line):
            raise OSError(0, "only part of a record was written")
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _document_of(line: bytes) -> dict[str, Any] | None:
    """None when the line is not what was written."""
    checksum, _, encoded = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(encoded):
            return None
        document = orjson.loads(encoded)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
