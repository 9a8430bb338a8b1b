"""How busy the machine and the switch's busiest thread are, sampled during a run."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from topologies.results.evidence import LoadSample

PERIOD_S = 0.25
KEPT_SAMPLES = 14_400
"""An hour."""


@dataclass(frozen=True)
class _Reading:
    at_ns: int
    monotonic_s: float
    machine_ticks: int
    idle_ticks: int
    thread_ns: dict[str, int]


class LoadMeter:
    """Differences between readings of /proc. FileNotFoundError when the process is gone."""

    def __init__(self, vswitchd_pid: int) -> None:
        self._tasks = Path(f"/proc/{vswitchd_pid}/task")
        self._last = self._read()

    def sample(self) -> LoadSample:
        """The load since the call before."""
        now, last = self._read(), self._last
        self._last = now
        duration_s = now.monotonic_s - last.monotonic_s
        ticks = now.machine_ticks - last.machine_ticks
        idle = now.idle_ticks - last.idle_ticks
        thread_ns = max(
            (ns - last.thread_ns.get(tid, 0) for tid, ns in now.thread_ns.items()), default=0
        )
        return LoadSample(
            at_ns=now.at_ns,
            duration_s=duration_s,
            machine_ratio=1 - idle / ticks if ticks > 0 else 0.0,
            vswitchd_ratio=thread_ns / 1e9 / duration_s if duration_s > 0 else 0.0,
        )

    def _read(self) -> _Reading:
        ticks = machine_ticks(Path("/proc/stat").read_text())
        # A thread may end between the listing and the reading; a process may not.
        threads = {}
        for task in self._tasks.iterdir():
            try:
                threads[task.name] = int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
        return _Reading(time.time_ns(), time.monotonic(), ticks[0], ticks[1], threads)


def machine_ticks(stat: str) -> tuple[int, int]:
    """(all, idle) clock ticks of the whole machine from the text of /proc/stat.

    Waiting for disks is idle; time that a hypervisor took away is not.
    """
    fields = [int(field) for field in stat.splitlines()[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def backlog_drops(softnet_stat: str) -> int:
    """Frames that full receive backlogs dropped, from the text of /proc/net/softnet_stat.

    One line a processor, all namespaces together; the second field, in hex, counts drops.
    Every veth's frames wait there for a softirq: an overloaded processor loses them
    before a switch could count them.
    """
    return sum(int(line.split()[1], 16) for line in softnet_stat.splitlines())


class LoadSampler:
    """Samples in a daemon thread from construction until `stop` or the switch's end."""

    def __init__(self, vswitchd_pid: int, period_s: float = PERIOD_S) -> None:
        self._meter = LoadMeter(vswitchd_pid)
        self._backlog_drops_before = _read_backlog_drops()
        self._period_s = period_s
        self._samples: deque[LoadSample] = deque(maxlen=KEPT_SAMPLES)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            try:
                self._samples.append(self._meter.sample())
            except FileNotFoundError:
                return

    def between(self, start_ns: int, end_ns: int) -> list[LoadSample]:
        return [s for s in list(self._samples) if start_ns < s.at_ns <= end_ns]

    def backlog_drops(self) -> int:
        """Of the whole machine since construction."""
        return _read_backlog_drops() - self._backlog_drops_before

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=2)


def _read_backlog_drops() -> int:
    return backlog_drops(Path("/proc/net/softnet_stat").read_text())
