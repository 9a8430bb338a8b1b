"""The control socket of a process whose main thread is busy being on time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

from controller.contracts.rpc import Handler, serve


class ControlThread:
    """Serves `handlers` at `path` from a daemon thread until `close`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(
            target=self._run, args=(dict(handlers),), name="control", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _run(self, handlers: Mapping[str, Handler]) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(serve(self._path, handlers))
        except OSError as error:  # handed to the constructor's thread
            self._failure = error
            return
        finally:
            self._ready.set()
        self._loop.run_forever()

    def close(self) -> None:
        """Stop serving and remove the socket's file."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=2)
        self._path.unlink(missing_ok=True)
