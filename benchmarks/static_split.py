"""The best fixed split of every bottleneck: the grid search behind policy `static`.

`python -m benchmarks.static_split [--scenario S] [--write]` searches on training
seeds, prints the scenario's `static_reservations` block (and writes it into the
file), and shows on other seeds what the split, an oracle and a smoothing planner
reach.  Fluid model only: seconds, no packets.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.fluid_policies import (
    FloatArray,
    by_window,
    demand_kbps,
    judge,
    loss_bounds,
    oracle,
    planner,
    reservable_kbps,
    smoothing,
)
from topologies.scenario.loader import find, load
from topologies.scenario.schema import Scenario

TRAINING_SEEDS = range(101, 121)
CHECK_SEEDS = range(201, 211)
DURATION_S = 90.0
STARTS = 24
CAPACITY_PRICE_PER_MBPS = 1e-6
"""Breaks ties: of equally good splits the smaller one."""

IntArray = npt.NDArray[np.int64]
Split = list[IntArray]
"""Levels per cell, each [slice]."""


@dataclass(frozen=True)
class SearchTables:
    """Everything a candidate split is judged with, computed once.

    `lost[cell][slice]` is [level, window]; `candidates[cell]` is [candidate, slice], the
    levels that fit; `offered` is [slice, window].
    """

    step_kbps: float
    offered: FloatArray
    bounds: FloatArray
    lost: list[list[FloatArray]]
    candidates: list[IntArray]

    def lost_outside(self, cell: int, split: Split) -> FloatArray:
        """[slice, window] that all other cells lose."""
        lost = np.zeros_like(self.offered)
        for other, levels in enumerate(split):
            if other != cell:
                lost += np.stack([self.lost[other][s][level] for s, level in enumerate(levels)])
        return lost


def tables(scenario: Scenario, demand: FloatArray, step_kbps: float) -> SearchTables:
    """`demand` is [bottleneck, slice, step], all training seeds one after the other."""
    lost: list[list[FloatArray]] = []
    candidates: list[IntArray] = []
    for cell, limit_kbps in enumerate(reservable_kbps(scenario)):
        levels = np.arange(0.0, limit_kbps + 1e-6, step_kbps)
        excess = [[np.maximum(row - level, 0.0) for level in levels] for row in demand[cell]]
        lost.append([np.stack([by_window(e) for e in of_slice]) for of_slice in excess])
        candidates.append(_fitting(demand[cell], levels.size, step_kbps))
    return SearchTables(
        step_kbps, by_window(demand).sum(axis=0), loss_bounds(scenario), lost, candidates
    )


def _fitting(demand: FloatArray, levels: int, step_kbps: float) -> IntArray:
    """Levels per slice whose sum fits and of which none exceeds its slice's peak needlessly."""
    useful = [min(levels, int(np.ceil(row.max() / step_kbps)) + 1) for row in demand]
    fitting = [c for c in itertools.product(*map(range, useful)) if sum(c) <= levels - 1]
    return np.array(fitting, dtype=np.int64)


def search(table: SearchTables) -> IntArray:
    """Coordinate descent over cells from several starts; levels [cell, slice]."""
    draw = np.random.default_rng(0)
    starts = [
        [options[int(draw.integers(len(options)))] for options in table.candidates]
        for _ in range(STARTS)
    ]
    _, best = max((descend(table, start) for start in starts), key=lambda found: found[0])
    return np.array(best)


def descend(table: SearchTables, split: Split) -> tuple[float, Split]:
    """Best split of one cell after the other, all else fixed, until nothing improves."""
    score, improved = -np.inf, True
    while improved:
        improved = False
        for cell, options in enumerate(table.candidates):
            scores = _scores(table, cell, split)
            best = int(np.argmax(scores))
            if scores[best] > score + 1e-12:
                score, improved = float(scores[best]), True
                split = [*split[:cell], options[best], *split[cell + 1 :]]
    return score, split


def _scores(table: SearchTables, cell: int, split: Split) -> FloatArray:
    """Mean satisfied ratio of every candidate of a cell, less the price of its capacity."""
    rest = table.lost_outside(cell, split)
    elsewhere = sum(int(levels.sum()) for other, levels in enumerate(split) if other != cell)
    options = table.candidates[cell]
    held = np.zeros(len(options))
    for slice_, lost in enumerate(table.lost[cell]):
        allowed = table.bounds[slice_] * table.offered[slice_]
        by_level = (rest[slice_] + lost <= allowed).mean(axis=1)
        held += by_level[options[:, slice_]]
    reserved_mbps = (options.sum(axis=1) + elsewhere) * table.step_kbps / 1000
    return np.asarray(held / len(table.lost[cell]) - CAPACITY_PRICE_PER_MBPS * reserved_mbps)


def yaml_block(scenario: Scenario, split_mbps: FloatArray) -> str:
    """The `static_reservations` block of [bottleneck, slice] in Mbit/s."""
    lines = ["static_reservations:"]
    for cell, row in zip(scenario.bottlenecks, split_mbps, strict=True):
        for slice_, mbps in zip(scenario.slices, row, strict=True):
            if mbps > 0:
                lines.append(
                    f"  - {{access_point: {cell}, slice: {slice_.name}, min_mbps: {mbps:g}}}"
                )
    return "\n".join(lines) + "\n"


def write_block(file: Path, block: str) -> None:
    """Replace the file's `static_reservations`, or append them."""
    text = file.read_text(encoding="utf-8")
    old = re.compile(r"^static_reservations:.*\n(?:[ \t]+.*\n|[ \t]*\n(?=[ \t]))*", re.MULTILINE)
    text = text if text.endswith("\n") else text + "\n"
    new, replaced = old.subn(lambda _: block, text, count=1)
    file.write_text(new if replaced else text + block, encoding="utf-8")


def report(scenario: Scenario, split_mbps: FloatArray, seeds: range, duration_s: float) -> None:
    """Print satisfied windows and reserved capacity of the split and of planners."""
    limit_kbps = reservable_kbps(scenario)
    policies: dict[str, Callable[[FloatArray], FloatArray]] = {
        "static": lambda demand: np.broadcast_to(1000 * split_mbps[:, :, None], demand.shape),
        "oracle": lambda demand: oracle(demand, limit_kbps),
        "smoothing, small margin": lambda demand: planner(
            demand, limit_kbps, smoothing(0.6, 0.4, 2.5, 0.15, 420.0)
        ),
        "smoothing, larger margin": lambda demand: planner(
            demand, limit_kbps, smoothing(0.8, 0.5, 2.5, 0.15, 600.0)
        ),
    }
    demands = [demand_kbps(scenario, seed, duration_s) for seed in seeds]
    print(f"seeds {seeds.start}-{seeds.stop - 1}, {duration_s:g} s each, satisfied 1 s windows:")
    for name, plan in policies.items():
        outcomes = [judge(scenario, demand, plan(demand)) for demand in demands]
        per_slice = np.mean([o.satisfied_ratio for o in outcomes], axis=0)
        shown = "  ".join(
            f"{s.name} {ratio:.3f}" for s, ratio in zip(scenario.slices, per_slice, strict=True)
        )
        print(
            f"{name:26s} {shown}  mean {per_slice.mean():.3f}  all slices at once "
            f"{np.mean([o.all_slices_ratio for o in outcomes]):.3f}  reserved "
            f"{np.mean([o.reserved_mbps for o in outcomes]):.1f} Mbit/s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--step-mbps", type=float, default=0.25)
    parser.add_argument("--duration", type=float, default=DURATION_S)
    parser.add_argument("--write", action="store_true", help="into the scenario's file")
    options = parser.parse_args()
    scenario = load(options.scenario)
    if not scenario.bottlenecks:
        parser.error(f"scenario {scenario.name} lists no bottlenecks, there is nothing to split")
    demands = [demand_kbps(scenario, seed, options.duration) for seed in TRAINING_SEEDS]
    table = tables(scenario, np.concatenate(demands, axis=2), 1000 * options.step_mbps)
    split_mbps = search(table) * options.step_mbps
    block = yaml_block(scenario, split_mbps)
    print(block)
    if options.write:
        write_block(find(options.scenario), block)
        scenario = load(options.scenario)
    report(scenario, split_mbps, CHECK_SEEDS, options.duration)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
