"""The recorded runs that the what-if emulator is fitted to and judged on; made where missing.

A run that the testbed itself calls invalid (a busy machine, late timers) is recorded again
and never quoted.  Recording may be spread over several calls: what is there and valid stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recorded import SCENARIOS, Recorded, read
from benchmarks.runs import run, why_not_quotable

DURATION_S = {"crossroads": 40, "market": 30, "minimal": 30}


@dataclass(frozen=True)
class Case:
    scenario: str
    policy: str
    seed: int
    again: bool = False

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.policy}-{self.seed}" + ("-again" if self.again else "")


CALIBRATION = (
    Case("crossroads", "static", 1),
    Case("crossroads", "xapps", 2),
    Case("minimal", "static", 1),
    Case("minimal", "xapps", 2),
)
HELD_OUT = (
    Case("crossroads", "static", 3),
    Case("crossroads", "xapps", 4),
    Case("market", "static", 1),
    Case("market", "xapps", 2),
)
REPEATED = (Case("crossroads", "static", 3, again=True), Case("market", "static", 1, again=True))
ALL = (*CALIBRATION, *HELD_OUT, *REPEATED)


def record_missing(runs: Path, most: int | None, cases: Sequence[Case] = ALL) -> dict[str, str]:
    """Makes up to `most` of the runs that are missing or invalid (None: one try for each).

    Returns what still must not be quoted, and why, by name.
    """
    wanted = [case for case in cases if why_not_quotable(runs / case.name)]
    for case in wanted[:most]:
        _record(case, runs / case.name)
    reasons = {case.name: why_not_quotable(runs / case.name) for case in cases}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _record(case: Case, folder: Path) -> None:
    print(f"recording {case.name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    own = SCENARIOS / f"{case.scenario}.yaml"
    scenario = str(own) if own.exists() else case.scenario
    duration_s = str(DURATION_S[case.scenario])
    run(scenario, folder, "--policy", case.policy, "--duration", duration_s, seed=case.seed)
    print(f"  {why_not_quotable(folder) or 'valid'}", flush=True)


class Unquotable(Exception):
    """Runs are missing or invalid, so there are no figures; the message says which and why."""


def quotable(case: Case, runs: Path) -> Recorded:
    """Raises `Unquotable`: no figure is ever computed from such a run."""
    reason = why_not_quotable(runs / case.name)
    if reason is not None:
        raise Unquotable(f"{case.name}: {reason}")
    return read(runs / case.name)
