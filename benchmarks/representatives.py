"""Decision quality against the number of users with a twin of their own: clusters and random.

As a fluid (no packets) over a scenario of many users.  The references in the same run: the
same number drawn at random, one of each kin first as clusters have it; drawn blindly (then
users of slices that nobody drawn has report for themselves, which costs more bytes); and
everybody.  What must hold: at no number do the twins of clusters err more than those of
random choice, over the same seeds, by more than two standard errors; over all they err less.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.fluid_representatives import play_represented
from benchmarks.fluid_twins import Played, play, world_of
from benchmarks.recorded import find_scenario
from benchmarks.runs import write

CHOICES = ("clusters", "random", "blind")


def row(seed: int, users: int, how: str, played: Played) -> dict[str, Any]:
    return {
        "seed": seed,
        "users": users,
        "choice": how,
        "bytes_per_s": played.bytes_per_s,
        "twin_error_ratio": played.twin_error_ratio,
        "satisfied_ratio": played.outcome.mean_ratio,
        "all_slices_ratio": played.outcome.all_slices_ratio,
        "reserved_mbps": played.outcome.reserved_mbps,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="crowd")
    parser.add_argument("--users", type=int, nargs="+", default=[3, 5, 8, 12, 20, 30])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--duration", type=float, default=90)
    options = parser.parse_args()
    scenario = find_scenario(options.scenario)
    rows = []
    for seed in options.seeds:
        world = world_of(scenario, seed, options.duration)
        rows.append(row(seed, len(scenario.users), "all", play(world)))
        for users in options.users:
            for how in CHOICES:
                rows.append(row(seed, users, how, play_represented(world, users, how, seed)))
    print("users of an edge  choice    bytes/s  twin error  satisfied  all slices  reserved")
    for users in [*options.users, len(scenario.users)]:
        for how in (*CHOICES, "all"):
            own = [r for r in rows if (r["users"], r["choice"]) == (users, how)]
            if own:
                mean = {k: statistics.mean(r[k] for r in own) for k in own[0] if k != "choice"}
                print(
                    f"{users:16d}  {how:8s}  {mean['bytes_per_s']:7.0f}  "
                    f"{mean['twin_error_ratio']:10.3f}  {mean['satisfied_ratio']:9.3f}  "
                    f"{mean['all_slices_ratio']:10.3f}  {mean['reserved_mbps']:8.2f}"
                )
    print(f"written to {write('representatives', {'scenario': options.scenario, 'rows': rows})}")
    worse = False
    for users in options.users:
        more, error = against_random([r for r in rows if r["users"] == users])
        worse = worse or more > 2 * error
        print(f"{users:3d} users: twin error of clusters - random {more:+.4f} (+-{error:.4f})")
    more, error = against_random(rows)
    print(f"all numbers: {more:+.4f} (+-{error:.4f})")
    return 1 if worse or more >= 0 else 0


def against_random(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean difference of twin errors over pairs, and its standard error."""
    by = {(r["choice"], r["seed"], r["users"]): r["twin_error_ratio"] for r in rows}
    pairs = [
        error - by["random", seed, users]
        for (choice, seed, users), error in by.items()
        if choice == "clusters"
    ]
    return statistics.mean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5


if __name__ == "__main__":
    raise SystemExit(main())
