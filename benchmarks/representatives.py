"""Decision quality against the number of users with a twin of their own: clusters and random.

As a fluid (no packets) over a scenario of many users.  The reference in the same run: the
same number of users drawn at random, and everybody.  What must hold: over all numbers the
twins of clusters err less than those of random choice.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.fluid_representatives import play_represented
from benchmarks.fluid_twins import Played, play, world_of
from benchmarks.recorded import find_scenario
from benchmarks.runs import write

CHOICES = ("clusters", "random")


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
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
    errors = {
        how: statistics.mean(r["twin_error_ratio"] for r in rows if r["choice"] == how)
        for how in CHOICES
    }
    print(f"twin error, mean: clusters {errors['clusters']:.3f}, random {errors['random']:.3f}")
    return 0 if errors["clusters"] < errors["random"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
