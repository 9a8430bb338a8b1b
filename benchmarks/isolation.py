"""A real-time slice's one-way delay and loss: unloaded, flooded, and flooded without slices.

The three runs are interleaved in rounds; the reference is the unloaded run of
the same round.  The run without slices is the negative test: it must be bad.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.runs import RESULTS, run, slice_of, write

CASES: dict[str, list[str]] = {
    "unloaded": ["--set", "traffic=[]"],
    "flooded": [],
    "flooded without slices": ["--set", "slicing=false"],
}


def measure(round_number: int, case: str, duration_s: float) -> dict[str, Any]:
    out = RESULTS / "isolation" / f"{round_number}-{case.replace(' ', '-')}"
    arguments = ["--policy", "static", "--duration", str(duration_s), *CASES[case]]
    summary = run("isolation", out, *arguments, seed=round_number)
    urllc = slice_of(summary, "urllc")
    return {
        "owd_ms": urllc["owd_ms"],
        "loss_ratio": urllc["loss_ratio"],
        "leaked_frames": sum(s["leaked_frames"] for s in summary["slices"]),
        "verdict": summary["validity"]["verdict"],
        "reasons": summary["validity"]["reasons"],
    }


def judge(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over rounds and the three verdicts."""
    p99_ms = {case: statistics.median(r[case]["owd_ms"]["p99"] for r in rounds) for case in CASES}
    bound_ms = 2 * p99_ms["unloaded"] + 0.5
    lost = max(r["flooded"]["loss_ratio"] for r in rounds)
    return {
        "p99_ms": p99_ms,
        "bound_ms": bound_ms,
        "flooded_loss_ratio": lost,
        "protected": p99_ms["flooded"] <= bound_ms and lost == 0,
        "negative_exceeds_5x": p99_ms["flooded without slices"] > 5 * p99_ms["unloaded"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=15)
    options = parser.parse_args()
    rounds = []
    for number in range(1, options.rounds + 1):
        cases = {}
        for case in CASES:
            cases[case] = measure(number, case, options.duration)
            owd_ms = cases[case]["owd_ms"]
            print(
                f"round {number} {case:24s} p50 {owd_ms['p50']:.2f} p99 {owd_ms['p99']:.2f} "
                f"p99.9 {owd_ms['p999']:.2f} ms, loss {cases[case]['loss_ratio']:.4f}, "
                f"{cases[case]['verdict']}",
                flush=True,
            )
        rounds.append(cases)
    verdict = judge(rounds)
    print(verdict)
    print(f"written to {write('isolation', {'rounds': rounds, 'verdict': verdict})}")
    return 0 if verdict["protected"] and verdict["negative_exceeds_5x"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
