"""Append-only JSON-lines files: the audit trail and the table of decisions.

A full or broken disk must never stop control: a line that cannot be written is
counted and raises an alarm, and writing is tried again with the next line.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)


class AppendOnlyLog:
    """One JSON object per line, written at once, never rewritten.

    `lost_lines` and `alarm` tell what could not be written; `alarm` is None while
    writing works.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._torn = False
        self.lost_lines = 0
        self.alarm: str | None = None

    def append(self, line: Mapping[str, Any]) -> bool:
        """True when the line is in the file; never raises for what the disk does."""
        encoded = orjson.dumps(line, default=str) + b"\n"
        try:
            self._write(encoded)
        except OSError as error:
            self.lost_lines += 1
            self._torn = self._torn or self._descriptor is not None
            if self.alarm is None:
                log.error("cannot write %s: %s; control goes on", self._path, error)
            self.alarm = f"{self._path.name}: {error.strerror or error}"
            return False
        if self.alarm is not None:
            log.warning("%s is writable again after %d lost lines", self._path, self.lost_lines)
            self.alarm = None
        return True

    def _write(self, encoded: bytes) -> None:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        # A short write before may have left half a line: start on a fresh one.
        pending = b"\n" + encoded if self._torn else encoded
        while pending:
            written = os.write(self._descriptor, pending)
            pending = pending[written:]
            self._torn = bool(pending)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Audit:
    """Who asked for what and what became of it, with the time of each entry."""

    def __init__(self, log_file: AppendOnlyLog, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._log = log_file
        self._now_ns = now_ns

    def note(self, event: str, caller: str, **details: Any) -> None:
        self._log.append({"at_ns": self._now_ns(), "event": event, "caller": caller, **details})
