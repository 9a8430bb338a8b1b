"""The whole test suite in stages: first what needs no testbed, on two processors beside each
other, then alone what measures packets. Each part is a pytest of its own; one verdict."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from topologies.checkout import environment_of_rooms

Part = tuple[str, ...]
"""Kinds of tests (folders of tests/) that one pytest runs."""

STAGES: tuple[tuple[Part, ...], ...] = (
    (("unit", "pipeline", "browser"), ("contract",)),
    (("emulated", "faults"),),
)
"""The two parts of the first take about as long; nothing may run beside the second."""


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    output: IO[bytes] | None
    """Kept until the others of its stage are done; None: shown as it comes."""

    @property
    def name(self) -> str:
        return ", ".join(self.part)


def run_parts(tests: Path, stages: Sequence[Sequence[Part]]) -> int:
    """Run all, whatever fails. The exit status: 0, or that of the first part that failed."""
    started_s = time.monotonic()
    failed: dict[str, int] = {}
    for stage in stages:
        failed |= _run_stage(tests, stage)
    took = f"{time.monotonic() - started_s:.0f} s"
    if failed:
        print(f"test suite FAILED in {took}: see {'; '.join(failed)}", flush=True)
        return next(iter(failed.values()))
    print(f"test suite passed in {took}", flush=True)
    return 0


def _run_stage(tests: Path, stage: Sequence[Part]) -> dict[str, int]:
    """Name -> exit status of the parts that failed."""
    running: list[_Running] = []
    try:
        for part in stage:
            output = tempfile.TemporaryFile() if running else None  # noqa: SIM115  closed below
            command = [sys.executable, "-m", "pytest", *(str(tests / kind) for kind in part)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output and subprocess.STDOUT,
                env=environment_of_rooms(),
                process_group=0,  # Ctrl-C is passed on once: twice, and nothing is put away
            )
            running.append(_Running(part, process, output))
        for one in running:
            one.process.wait()
            if one.output is not None:
                one.output.seek(0)
                sys.stdout.buffer.write(one.output.read())
                sys.stdout.flush()
    finally:
        for one in running:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGINT)
        for one in running:
            one.process.wait()
            if one.output is not None:
                one.output.close()
    return {one.name: one.process.returncode for one in running if one.process.returncode}
