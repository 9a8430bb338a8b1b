"""What a handover costs: make before break, break before make, and re-plugging a port.

One user, 1,000 packets/s each way, at least 20 handovers of each kind in one go.  Asked:
make before break loses nothing and reorders nothing, break before make costs its
interruption, and switches that are on neither path are not touched.  Re-plugging on plain
switches is the reference.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks import flow_mods
from benchmarks.replugging import measure
from benchmarks.runs import RESULTS, run, write

RATE_PPS = 1000
CROSSING_S = 3.2
TOLERANCE_MS = 5.0
"""Of an interruption: a switch applies a rule some milliseconds after it was sent."""
WATCHED_HANDOVERS = 4


def emulated(kind: str, handovers: int, interruption_ms: int) -> dict[str, list[dict[str, float]]]:
    """Of the scenario `handover`, as the testbed measured it itself."""
    arguments = ["--policy", "static", "--duration", str(round((handovers + 1.5) * CROSSING_S))]
    arguments += ["--set", f"handover.kind={kind}"]
    if interruption_ms:
        arguments += ["--set", f"handover.interruption_ms={interruption_ms}"]
    summary = run("handover", RESULTS / "handover" / kind, *arguments)
    found = summary["handovers"]["each"]
    return {way: [each[way] for each in found if each[way]] for way in ("down", "up")}


def figures(costs: list[dict[str, float]]) -> dict[str, Any]:
    gaps_ms = [c["interruption_ms"] for c in costs]
    lost = [c["lost_packets"] for c in costs]
    return {
        "handovers": len(costs),
        "lost_packets": sum(lost),
        "lost_per_handover": {"p50": statistics.median(lost), "max": max(lost)},
        "reordered_packets": sum(c["reordered_packets"] for c in costs),
        "gap_ms": {"p50": statistics.median(gaps_ms), "max": max(gaps_ms)},
    }


def judge(
    cases: dict[str, dict[str, Any]],
    mods: flow_mods.FlowMods,
    handovers: int,
    interruption_ms: int,
) -> dict[str, bool]:
    made = cases["make_before_break"].values()
    broken = cases["break_before_make"].values()
    plugged = cases["re-plugging"].values()
    expected, allowed = RATE_PPS * interruption_ms / 1000, RATE_PPS * TOLERANCE_MS / 1000
    on_the_paths = {"air", "core", *mods.cells}
    return {
        "enough_handovers": all(
            f["handovers"] >= handovers for c in cases.values() for f in c.values()
        ),
        "make_before_break_loses_nothing": all(f["lost_packets"] == 0 for f in made),
        "make_before_break_reorders_nothing": all(f["reordered_packets"] == 0 for f in made),
        "break_before_make_is_as_long_as_configured": all(
            abs(f["gap_ms"]["p50"] - interruption_ms) <= TOLERANCE_MS for f in broken
        ),
        "break_before_make_loses_its_interruption": all(
            abs(f["lost_per_handover"]["p50"] - expected) <= allowed for f in broken
        ),
        "re_plugging_loses": sum(f["lost_packets"] for f in plugged) >= handovers,
        "only_affected_switches_are_touched": all(
            (count > 0) == (name in on_the_paths) for name, count in mods.by_switch.items()
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handovers", type=int, default=20)
    parser.add_argument("--interruption-ms", type=int, default=50)
    options = parser.parse_args()
    count, interruption_ms = options.handovers, options.interruption_ms
    cases: dict[str, dict[str, Any]] = {}
    for kind in ("make_before_break", "break_before_make", "re-plugging"):
        if kind == "re-plugging":
            costs = measure(count)
        else:
            broken_ms = interruption_ms if kind == "break_before_make" else 0
            costs = emulated(kind, count, broken_ms)
        cases[kind] = {way: figures(of_way) for way, of_way in costs.items()}
        for way, found in cases[kind].items():
            per, gap = found["lost_per_handover"], found["gap_ms"]
            print(
                f"{kind:18s} {way:4s} {found['handovers']:3d} handovers: lost "
                f"{found['lost_packets']} (each p50 {per['p50']:g}, max {per['max']:g}), "
                f"reordered {found['reordered_packets']}, "
                f"gap p50 {gap['p50']:.1f}, max {gap['max']:.1f} ms",
                flush=True,
            )
    mods = flow_mods.measure(WATCHED_HANDOVERS)
    told = ", ".join(
        f"{name} {mods_ / mods.handovers:.1f}" for name, mods_ in mods.by_switch.items()
    )
    print(f"flows changed by a handover, of {mods.handovers} watched: {told}")
    verdict = judge(cases, mods, count, interruption_ms)
    print(verdict)
    written = {
        "interruption_ms": interruption_ms,
        "cases": cases,
        "flow_mods": mods.as_json(),
        "verdict": verdict,
    }
    print(f"written to {write('handover', written)}")
    return 0 if all(verdict.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
