"""How long up and down take and how much memory a running testbed holds (sum of PSS)."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.runs import testbed, write


def pss_mb(pid: int) -> float:
    """Proportional set size of one process, MB; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1e3


def processes_of(run_id: str) -> list[int]:
    """Every process that carries HOLON_RUN_ID=<run_id>."""
    wanted = f"HOLON_RUN_ID={run_id}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        up_s = testbed("up", options.scenario).wall_s
        run_id = json.loads(testbed("status", "--json").stdout)["run_id"]
        testbed("measure", "--duration", "10")
        pids = processes_of(run_id)
        memory_mb = sum(pss_mb(pid) for pid in pids)
        down_s = testbed("down").wall_s
        left = len(processes_of(run_id))
        rounds.append({"up_s": up_s, "down_s": down_s, "pss_mb": memory_mb, "left": left})
        print(f"up {up_s:.1f} s, down {down_s:.1f} s, {memory_mb:.0f} MB in {len(pids)} "
              f"processes, {left} left", flush=True)  # fmt: skip
    median = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
    print(f"median {median}; wanted: up <= 15 s, down <= 5 s, <= 1200 MB, 0 left")
    print(f"written to {write('footprint', {'rounds': rounds, 'median': median})}")
    kept = (
        median["up_s"] <= 15
        and median["down_s"] <= 5
        and median["pss_mb"] <= 1200
        and all(r["left"] == 0 for r in rounds)
    )
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
