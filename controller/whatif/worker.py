"""The process that computes predictions: `python -m controller.whatif.worker`.

Requests and answers are pickles with a length before them, on stdin and stdout, from and to
the RIC that started it; it ends with its input.  A process of its own because the RIC's loop
must not wait for numpy, and because the forecast's runtime is then loaded only when needed.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from controller.whatif.calibration import Calibration
from controller.whatif.predicting import Prediction
from controller.whatif.snapshot import Snapshot
from controller.whatif.strategies import Strategy, StrategyError

_LENGTH = struct.Struct("!I")
_REPOSITORY = Path(__file__).resolve().parents[2]
_NICENESS = 15
"""Added to the RIC's: predictions must not delay the loop they think about."""


class WorkerFailed(Exception):
    """The worker gave no answer; the message says why."""


class Worker:
    """The RIC's side.  Started at the first request; one request at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def predict(
        self, snapshot: Snapshot, strategies: Sequence[Strategy], horizon_s: float
    ) -> list[Prediction]:
        """Raises `StrategyError`, `WorkerFailed`.

        A caller that stops waiting leaves the answer to be read before the next request.
        """
        asking = asyncio.ensure_future(self._in_turn((snapshot, list(strategies), horizon_s)))
        asking.add_done_callback(_seen)
        return await asyncio.shield(asking)

    async def ready(self) -> None:
        """Returns once it has started and loaded what predictions need; raises `WorkerFailed`."""
        await self._in_turn(None)

    async def _in_turn(self, request: Any) -> list[Prediction]:
        async with self._lock:
            return await self._ask(request)

    async def _ask(self, request: Any) -> list[Prediction]:
        process = await self._started()
        assert process.stdin is not None and process.stdout is not None
        content = pickle.dumps(request)
        try:
            process.stdin.write(_LENGTH.pack(len(content)) + content)
            await process.stdin.drain()
            size = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))[0]
            answer = pickle.loads(await process.stdout.readexactly(size))
        except (OSError, EOFError) as error:  # IncompleteReadError is an EOFError
            await self.stop()
            raise WorkerFailed(f"the what-if worker ended: {error}") from None
        if isinstance(answer, StrategyError):
            raise answer
        if isinstance(answer, str):
            raise WorkerFailed(answer)
        found: list[Prediction] = answer
        return found

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "controller.whatif.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=_REPOSITORY,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        return self._process

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _seen(asking: asyncio.Future[list[Prediction]]) -> None:
    """Nobody may be waiting any more; then its error is nobody's either."""
    if not asking.cancelled():
        asking.exception()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until the input ends."""
    from controller.whatif.forecast import forecaster
    from controller.whatif.predicting import predict

    forecast, calibration = forecaster(), Calibration.load()
    while head := requests.read(_LENGTH.size):
        request = pickle.loads(requests.read(_LENGTH.unpack(head)[0]))
        answer: Any
        try:
            answer = []
            if request is not None:
                snapshot, strategies, horizon_s = request
                answer = predict(snapshot, strategies, horizon_s, forecast, calibration)
        except StrategyError as error:
            answer = error
        except Exception as error:  # process boundary: the RIC tells its caller
            answer = f"prediction failed: {type(error).__name__}: {error}"
        content = pickle.dumps(answer)
        answers.write(_LENGTH.pack(len(content)) + content)
        answers.flush()


if __name__ == "__main__":
    os.nice(_NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
