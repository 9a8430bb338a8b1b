"""How benchmarks use the testbed: through its commands, like any script of a user's."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
TESTBED = REPOSITORY / "testbed.sh"
RESULTS = REPOSITORY / "results" / "bench"
SETTINGS = os.environ.get("HOLON_BENCH_SETTINGS", "").split()
"""For every testbed a benchmark brings up, as `key=value`, e.g. another northbound_port."""


@dataclass(frozen=True)
class Finished:
    """A command that ended well: what it printed and how long it took."""

    stdout: str
    wall_s: float


def testbed(*arguments: str, timeout_s: float = 600) -> Finished:
    """Run `./testbed.sh ARGUMENTS`; raises `CalledProcessError` with its last lines."""
    started_s = time.monotonic()
    settings = SETTINGS if arguments[0] in ("up", "run") else []
    own = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [str(TESTBED), *arguments, *own], capture_output=True, text=True, timeout=timeout_s
    )
    if done.returncode != 0:
        raise SystemExit(
            f"./testbed.sh {' '.join(arguments)} failed ({done.returncode}):\n"
            f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return Finished(done.stdout, time.monotonic() - started_s)


def run(scenario: str, out: Path, *arguments: str, seed: int = 1) -> dict[str, Any]:
    """One batch run; returns its summary.json."""
    testbed("run", scenario, "--seed", str(seed), "--out", str(out), *arguments)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def why_not_quotable(folder: Path) -> str | None:
    """None: it may be quoted."""
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return "not recorded yet"
    validity = summary["validity"]
    if validity["verdict"] == "valid":
        return None
    return "invalid: " + "; ".join(validity["reasons"])


def slice_of(summary: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in summary["slices"] if s["name"] == name)
    return found


def versions_of(summary: dict[str, Any]) -> dict[str, str]:
    """What a figure was measured with, for the page that states it."""
    wanted = ("python", "kernel", "open_vswitch", "ryu")
    return {"datapath": summary["datapath"], **{k: summary["versions"][k] for k in wanted}}


def write(name: str, figures: dict[str, Any]) -> Path:
    """Keep a benchmark's figures in results/bench/NAME.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    return path
