"""One long command with signs of life, a time limit, and nothing left of it afterwards."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from topologies.errors import MachineError

Progress = Callable[[str], None]
_PERIOD_S = 5.0
_POLL_S = 0.1


def attempt(
    text: str,
    command: Sequence[str],
    log: Path,
    progress: Progress,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run it, output to `log`; `text` says what it does. Raises `MachineError`.

    It runs in a process namespace of its own, so that an end by timeout or
    interrupt leaves no process (and none of its mounts) behind.
    """
    contained = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", *command]
    progress(text)
    started_s = shown_s = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            contained,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            now_s = time.monotonic()
            if now_s - started_s > timeout_s:
                raise MachineError(f"{text}: not done within {timeout_s:.0f} s (log: {log})")
            if now_s - shown_s >= _PERIOD_S:
                shown_s = now_s
                progress(f"{text}: {now_s - started_s:.0f} s")
            time.sleep(_POLL_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        words = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise MachineError(f"{text}: status {process.returncode}: {words[-1][:300]} (log: {log})")
