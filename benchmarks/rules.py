"""Flow rules and meters per switch for 8, 32 and 128 users, and a real switch's own count for 8.

Crossroads' cells, servers, slices and services with that many users, two slices each, spread
evenly over the cells.  The counts of planned networks come from the compiler that
installs them; for the smallest the testbed is brought up and its switches are asked.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs import REPOSITORY, RESULTS, testbed, write
from topologies.describe import as_planned
from topologies.scenario.schema import Scenario

USERS = (8, 32, 128)
SCENARIO = REPOSITORY / "topologies" / "scenarios" / "crossroads.yaml"

Counts = dict[str, dict[str, int]]
"""Switch -> {"flows", "meters"}."""


def scenario_with(users: int) -> dict[str, Any]:
    """Crossroads as a document, its users replaced and without traffic."""
    document: dict[str, Any] = yaml.safe_load(SCENARIO.read_text())
    slices = [s["name"] for s in document["slices"]][:2]
    cells = document["access_points"]
    document["users"] = [
        {
            "name": f"user{i}", "type": "phone", "slices": slices,
            "mobility": {"kind": "static", "position_m": cells[i % len(cells)]["position_m"]},
        }
        for i in range(users)
    ]  # fmt: skip
    return {**document, "name": f"rules-{users}", "traffic": [], "probes": [], "xapps": []}


def planned_counts(documents: list[dict[str, Any]]) -> list[Counts]:
    """What the controller would install on each switch of these networks."""
    with tempfile.TemporaryDirectory(prefix="holon-rules-") as folder:
        files = []
        for number, document in enumerate(documents):
            scenario = Scenario.model_validate(document)
            cells = scenario.access_points
            serving = {u.name: cells[i % len(cells)].name for i, u in enumerate(scenario.users)}
            inventory = as_planned(scenario, "static", serving)
            file = Path(folder) / f"{number}.json"
            file.write_text(inventory.model_dump_json())
            files.append(str(file))
        command = [sys.executable, "-P", "-m", "controller.rule_counts", *files]
        counts: list[Counts] = json.loads(subprocess.check_output(command))
    return counts


def real_counts(document: dict[str, Any]) -> Counts:
    """Brings the network up and asks every switch for its rules."""
    file = RESULTS / "rules" / f"{document['name']}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    testbed("up", str(file), "--policy", "static")
    try:
        lines = testbed("env").stdout.splitlines()
        settings = dict(w.split("=", 1) for line in lines for w in shlex.split(line) if "=" in w)
        folder = Path(settings["OVS_RUNDIR"])
        return {
            socket.stem: {what: _dumped(socket, what) for what in ("flows", "meters")}
            for socket in sorted(folder.glob("*.mgmt"))
        }
    finally:
        testbed("down")


def _dumped(socket: Path, what: str) -> int:
    """Lines of `ovs-ofctl dump-flows` or `dump-meters` that are one."""
    command = ["ovs-ofctl", "-O", "OpenFlow13", f"dump-{what}", f"unix:{socket}"]
    text = subprocess.check_output(command, text=True)
    return text.count("cookie=" if what == "flows" else "meter=")


def growth(counts: list[Counts], switch: str) -> list[float]:
    """Rules a user adds, between one number of users and the next."""
    flows = [c[switch]["flows"] for c in counts]
    return [
        (b - a) / (n - m) for (a, b), (m, n) in zip(pairwise(flows), pairwise(USERS), strict=True)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planned-only", action="store_true", help="do not bring a testbed up")
    options = parser.parse_args()
    documents = [scenario_with(users) for users in USERS]
    planned = planned_counts(documents)
    real = None if options.planned_only else real_counts(documents[0])
    header = "".join(f"{f'{n} users':>12s}" for n in USERS)
    print(f"{'flows':10s}{header}{'a user adds':>16s}{f'real, {USERS[0]}':>10s}")
    linear = True
    for switch in planned[0]:
        steps = growth(planned, switch)
        linear &= max(steps) - min(steps) <= 1
        cells = "".join(f"{c[switch]['flows']:12d}" for c in planned)
        asked = "-" if real is None else str(real[switch]["flows"])
        adds = ", ".join(f"{s:.1f}" for s in steps)
        print(f"{switch:10s}{cells}{adds:>16s}{asked:>10s}")
    agrees = real is None or real == planned[0]
    print(f"linear: {linear}; switches carry what was planned: {agrees if real else 'not asked'}")
    figures = {"users": USERS, "planned": planned, "real": real, "linear": linear}
    print(f"written to {write('rules', figures)}")
    return 0 if linear and agrees else 1


if __name__ == "__main__":
    raise SystemExit(main())
