"""What the emulation repaired by itself: an audit record each, the newest in `status`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import orjson

_RECENT = 50


class Repairs:
    """One JSON line per repair, appended at once: {at_ns, event, detail}.

    Events: `restarted`, `not_restarted`, `hung` (ended because it did not answer),
    `repaired` (configuration of the switches put back).
    """

    def __init__(self, path: Path, now_ns: Callable[[], int]) -> None:
        self._path = path
        self._now_ns = now_ns
        self._recent: deque[dict[str, object]] = deque(maxlen=_RECENT)

    def note(self, event: str, detail: str) -> None:
        """A disk that takes no line must not stop repairs: the record stays in `status`."""
        line = {"at_ns": self._now_ns(), "event": event, "detail": detail}
        self._recent.append(line)
        print(f"{event}: {detail}", flush=True)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(orjson.dumps(line) + b"\n")
        except OSError as error:
            print(f"cannot write {self._path}: {error}", flush=True)

    def recent(self) -> list[dict[str, object]]:
        """Oldest first."""
        return list(self._recent)
