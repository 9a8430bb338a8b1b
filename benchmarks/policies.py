"""SLA satisfaction against reserved capacity, for every policy on the same seeds.

Paired by seed; the order of policies alternates between seeds so that a drift
of the machine does not favour one.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.runs import RESULTS, run, write

POLICIES = ("xapps", "static", "none", "placebo", "model")


def figures(summary: dict[str, Any]) -> dict[str, Any]:
    decisions = summary["decisions"]
    exercised = decisions["verified"] + decisions["refuted"]
    return {
        "sla_satisfied_ratio": statistics.mean(s["sla_satisfied_ratio"] for s in summary["slices"]),
        "by_slice": {s["name"]: s["sla_satisfied_ratio"] for s in summary["slices"]},
        "reserved_mbps": sum(s["reserved_mbps"] for s in summary["slices"]),
        "refuted_ratio": decisions["refuted"] / exercised if exercised else None,
        "decisions": decisions,
        "handovers": summary["handovers"],
        "leaked_frames": sum(s["leaked_frames"] for s in summary["slices"]),
        "loop_latency_ms": summary["loop_latency_ms"],
        "verdict": summary["validity"]["verdict"],
        "reasons": summary["validity"]["reasons"],
        "cpu_busy_ratio": summary["validity"]["cpu_busy_ratio"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--duration", type=float, default=60)
    options = parser.parse_args()
    table: dict[str, dict[str, Any]] = {p: {} for p in options.policies}
    for index, seed in enumerate(options.seeds):
        order = options.policies if index % 2 == 0 else options.policies[::-1]
        for policy in order:
            out = RESULTS / "policies" / f"{options.scenario}-{policy}-{seed}"
            summary = run(
                options.scenario,
                out,
                "--policy",
                policy,
                "--duration",
                str(options.duration),
                seed=seed,
            )
            row = figures(summary)
            table[policy][str(seed)] = row
            print(
                f"seed {seed} {policy:8s} satisfied {row['sla_satisfied_ratio']:.3f} reserved "
                f"{row['reserved_mbps']:6.2f} Mbit/s  refuted {row['refuted_ratio']}  "
                f"loop p99 {row['loop_latency_ms'].get('p99')} ms  leaked {row['leaked_frames']}  "
                f"{row['verdict']} {'; '.join(row['reasons'])}",
                flush=True,
            )
    print(f"written to {write('policies', table)}")
    return 0 if ordered(table) else 1


def ordered(table: dict[str, dict[str, Any]]) -> bool:
    """Whether xapps > static > none at no more capacity, placebo not above static."""

    def mean(policy: str, figure: str) -> float:
        return statistics.mean(float(row[figure]) for row in table[policy].values())

    satisfied = {p: mean(p, "sla_satisfied_ratio") for p in table}
    reserved = {p: mean(p, "reserved_mbps") for p in table}
    for policy in table:
        print(f"{policy:8s} satisfied {satisfied[policy]:.3f} reserved {reserved[policy]:.2f}")
    wanted = [
        ("xapps", "static", satisfied, 1),
        ("static", "none", satisfied, 1),
        ("static", "xapps", reserved, 0),
        ("static", "placebo", satisfied, 0),
    ]
    verdict = True
    for better, worse, figure, strict in wanted:
        if better in figure and worse in figure:
            holds = figure[better] > figure[worse] if strict else figure[better] >= figure[worse]
            verdict = verdict and holds
    return verdict


if __name__ == "__main__":
    raise SystemExit(main())
