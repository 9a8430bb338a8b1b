"""What a twin budget does to decisions: automatic spending against uniform, at equal bytes.

Live, on packets: paired by seed, the order of policies alternates.  `--fluid` plays the same
rules without packets over many seeds, for the frontier.  `unlimited` is the upper bound.
The bound that must hold: every run spent its budget within `--tolerance`; a gain is stated,
not demanded.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np

from benchmarks.fluid_twins import frontier
from benchmarks.recorded import find_scenario
from benchmarks.runs import RESULTS, run, write

POLICIES = ("unlimited", "uniform", "automatic")
WARM_UP_S = 14
"""Until the first settings are in force and what changes is known."""
Row = dict[str, Any]


def live(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for index, seed in enumerate(options.seeds):
        for bytes_per_s in options.budgets:
            policies = options.policies if index % 2 == 0 else options.policies[::-1]
            for policy in policies:
                if policy == "unlimited" and bytes_per_s != options.budgets[0]:
                    continue
                rows.append(one(options, seed, bytes_per_s, policy))
                print(line(rows[-1]), flush=True)
    return rows


def one(options: argparse.Namespace, seed: int, bytes_per_s: float, policy: str) -> Row:
    out = RESULTS / "budget" / f"{options.scenario}-{policy}-{bytes_per_s:g}-{seed}"
    settings = ["--duration", str(options.duration), "--set", f"warmup_s={WARM_UP_S}"]
    for text in options.set or ():
        settings += ["--set", text]
    if policy != "unlimited":
        settings += ["--set", f"twins.budget.bytes_per_s={bytes_per_s:g}"]
        settings += ["--set", f"twins.budget.spending={policy}"]
    summary = run(options.scenario, out, *settings, seed=seed)
    budget = None if policy == "unlimited" else bytes_per_s
    return figures(summary, seed, policy, budget)


def figures(summary: dict[str, Any], seed: int, policy: str, budget: float | None) -> Row:
    twins, errors = summary["twins"], summary["twins"]["predictions"]
    spent = twins["bytes_per_s"]
    return {
        "seed": seed,
        "policy": policy,
        "budget_bytes_per_s": budget,
        "bytes_per_s": spent,
        "off_ratio": None if budget is None else spent / budget - 1,
        "satisfied_ratio": statistics.mean(s["sla_satisfied_ratio"] for s in summary["slices"]),
        "by_slice": {s["name"]: s["sla_satisfied_ratio"] for s in summary["slices"]},
        "reserved_mbps": sum(s["reserved_mbps"] for s in summary["slices"]),
        "twin_age_p95_ms": twins["age_ms"]["p95"],
        "demand_error_kbps": errors["demand_error_kbps"],
        "demand_naive_error_kbps": errors["demand_naive_error_kbps"],
        "verdict": summary["validity"]["verdict"],
        "reasons": summary["validity"]["reasons"],
    }


def line(row: Row) -> str:
    budget = "no limit" if row["budget_bytes_per_s"] is None else f"{row['budget_bytes_per_s']:g}"
    return (
        f"seed {row['seed']} {row['policy']:9s} {row['bytes_per_s']:6.0f} of {budget:8s} bytes/s  "
        f"satisfied {row['satisfied_ratio']:.3f}  reserved {row['reserved_mbps']:6.2f} Mbit/s  "
        f"age p95 {row['twin_age_p95_ms']:.0f} ms  {row['verdict']} {'; '.join(row['reasons'])}"
    )


def differences(rows: list[Row], keys: tuple[str, str]) -> list[float]:
    """Automatic less uniform, satisfied windows, paired by these keys."""
    by = {(r["policy"], *(r[k] for k in keys)): r["satisfied_ratio"] for r in rows}
    return [
        value - by["uniform", *rest]
        for (policy, *rest), value in by.items()
        if policy == "automatic" and ("uniform", *rest) in by
    ]


def verdict(gains: list[float], where: str) -> str:
    if not gains:
        return f"{where}: nothing to compare"
    if len(gains) == 1:
        return f"{where}: automatic - uniform {100 * gains[0]:+.2f} points, one pair: says nothing"
    mean, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    low, high = interval(gains)
    word = "better" if low > 0 else "worse" if high < 0 else "no difference these runs can tell"
    return (
        f"{where}: automatic - uniform {100 * mean:+.2f} points of satisfied windows (standard "
        f"error {100 * error:.2f}, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}, "
        f"{len(gains)} pairs): {word}"
    )


def interval(gains: list[float], draws: int = 10_000) -> tuple[float, float]:
    """Of the mean, 95 %: means of pairs drawn again."""
    random = np.random.default_rng(0)
    means = random.choice(gains, (draws, len(gains))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def fluid(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    table = frontier(
        find_scenario(options.scenario), options.seeds, options.ratios, options.duration
    )
    rows: list[Row] = [{**row, "policy": policy} for policy, of in table.items() for row in of]
    print("policy    of full  bytes/s  satisfied  all slices  reserved  twin error")
    for policy in POLICIES:
        for ratio in sorted({r["ratio"] for r in rows if r["policy"] == policy}, reverse=True):
            own = [r for r in rows if (r["policy"], r["ratio"]) == (policy, ratio)]
            mean = {k: statistics.mean(r[k] for r in own) for k in own[0] if k != "policy"}
            print(
                f"{policy:9s} {ratio:7.2f}  {mean['bytes_per_s']:7.0f}  "
                f"{mean['satisfied_ratio']:9.3f}  {mean['all_slices_ratio']:10.3f}  "
                f"{mean['reserved_mbps']:8.2f}  {mean['twin_error_ratio']:10.3f}"
            )
    said = []
    for ratio in options.ratios:
        own = [r for r in rows if r["ratio"] == ratio]
        said.append(verdict(differences(own, ("seed", "ratio")), f"at {ratio:g} of the bytes"))
    return rows, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--budgets", type=float, nargs="+", default=[6000.0, 4800.0])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--duration", type=float, default=30)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--set", action="append", help="as for `run`")
    parser.add_argument("--fluid", action="store_true", help="no packets, many seeds")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.6, 0.4, 0.25])
    options = parser.parse_args()
    if options.fluid:
        rows, said = fluid(options)
        for text in said:
            print(text)
        print(f"written to {write('budget-fluid', {'rows': rows, 'verdicts': said})}")
        return 0
    rows = live(options)
    said = [
        verdict(
            differences(
                [r for r in rows if r["budget_bytes_per_s"] == b], ("seed", "budget_bytes_per_s")
            ),
            f"at {b:g} bytes/s",
        )
        for b in options.budgets
    ]
    for text in said:
        print(text)
    path = write("budget", {"rows": rows, "verdicts": said, "tolerance": options.tolerance})
    print(f"written to {path}")
    off = [
        r for r in rows if r["off_ratio"] is not None and abs(r["off_ratio"]) > options.tolerance
    ]
    for row in off:
        print(f"spent {100 * row['off_ratio']:+.1f} % of its budget: {line(row)}")
    return 1 if off else 0


if __name__ == "__main__":
    raise SystemExit(main())
