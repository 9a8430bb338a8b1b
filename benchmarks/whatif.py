"""What-if: the emulator's error on held-out runs, its speed, and how often the best is picked.

Runs are recorded where they are missing or invalid (real packets, about a minute each) and kept
in results/bench/whatif; while one of them is not valid, no figure is printed.  Calibrated on
four, judged on others: crossroads with other seeds, and `market`, a scenario that calibration
never sees.  The same run twice is the noise floor.

`./testbed.sh bench whatif [--write] [--runs DIR] [--record-most N]`; `--write` keeps the
calibration, `--record-most 3` ends after three recordings, to be called again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proportions import Choice, judged, words
from benchmarks.recorded import Recorded, finer
from benchmarks.runs import RESULTS, write
from benchmarks.whatif_calibration import Errors, fit, judge, noise_floor, summary
from benchmarks.whatif_picking import HORIZON_S, picks
from benchmarks.whatif_runs import CALIBRATION, HELD_OUT, REPEATED, Case, quotable, record_missing
from controller.whatif.calibration import DEFAULT_PATH, Calibration
from controller.whatif.emulator import Traffic, emulate
from controller.whatif.forecast import OnnxForecast
from topologies.results.tables import read_table

SPEED_S = 90.0
PICK_TIE = 0.02
"""Equal but for the price of what is reserved: as many windows satisfied."""


def show(title: str, found: Sequence[Errors]) -> dict[str, Any]:
    print(f"\n{title}")
    for e in found:
        print(
            f"  {e.run:26s} {e.slice:8s} mean {e.mean_delay_ms:7.2f} ms "
            f"{e.mean_delay_error_ratio:+7.1%}  p99 {e.p99_delay_ms:7.2f} ms "
            f"{e.p99_delay_error_ratio:+7.1%}  throughput {e.throughput_error_ratio:+7.2%}  "
            f"W1 {e.wasserstein_ms:5.2f} ms"
        )
    means = summary(found)
    print(
        f"  mean of absolute errors: mean delay {means['mean_delay_error_ratio']:.1%}, "
        f"p99 {means['p99_delay_error_ratio']:.1%}, "
        f"throughput {means['throughput_error_ratio']:.2%}"
    )
    return {**means, "each": [asdict(e) for e in found]}


def speed(recorded: Recorded) -> float:
    """Times real time of one instance, best of three: emulated seconds per second of this run."""
    offered = finer(recorded.offered_kbps)
    filler = np.broadcast_to(recorded.filler_kbps[None, :, None], (*offered.shape[:2], 1))
    whole = np.concatenate([offered, filler], axis=2)
    repeats = int(np.ceil(SPEED_S / recorded.duration_s))
    traffic = Traffic(np.concatenate([whole] * repeats))
    took = []
    for _ in range(3):
        started_s = time.perf_counter()
        emulate(recorded.columns.classes(), traffic, recorded.changes[0][1])
        took.append(time.perf_counter() - started_s)
    return recorded.duration_s * repeats / min(took)


def twin_noise(first: Path, again: Path) -> float:
    """Mean difference of satisfied windows between two equal runs, `HORIZON_S` at a time."""
    held = [np.array(read_table(f, "windows")["satisfied"], dtype=float) for f in (first, again)]
    per = int(HORIZON_S)
    blocks = [h[: len(h) // per * per].reshape(-1, per).mean(axis=1) for h in held]
    return float(np.abs(blocks[0] - blocks[1]).mean())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=RESULTS / "whatif")
    parser.add_argument("--write", action="store_true", help="keep the calibration")
    parser.add_argument("--record-most", type=int, metavar="N", help="recordings of this call")
    options = parser.parse_args()
    if unquotable := record_missing(options.runs, options.record_most):
        print(f"{len(unquotable)} runs may not be quoted, so there are no figures; call again:")
        for name, reason in unquotable.items():
            print(f"  {name}: {reason}")
        return 1

    def recorded(case: Case) -> Recorded:
        return quotable(case, options.runs)

    calibration = fit([recorded(case) for case in CALIBRATION])
    if options.write:
        DEFAULT_PATH.write_text(calibration.model_dump_json(indent=1) + "\n")
    figures: dict[str, Any] = {"calibration": calibration.model_dump(exclude={"spread_ratio"})}
    print({k: v for k, v in figures["calibration"].items() if k != "sources"})
    held_out = {case: recorded(case) for case in HELD_OUT}
    own = [e for case in CALIBRATION for e in judge(recorded(case), calibration)]
    figures["calibrated_on"] = show("runs it was calibrated on", own)
    for scenario in ("crossroads", "market"):
        found = [
            e for c, r in held_out.items() if c.scenario == scenario for e in judge(r, calibration)
        ]
        figures[f"held_out_{scenario}"] = show(f"held out: {scenario}", found)
    floor, noise = [], []
    for again in REPEATED:
        case = replace(again, again=False)
        floor += noise_floor(recorded(case), recorded(again))
        noise.append(twin_noise(options.runs / case.name, options.runs / again.name))
    figures["noise_floor"] = show("noise floor: the same run twice", floor)
    figures["speed_ratio"] = speed(held_out[HELD_OUT[0]])
    print(f"\nspeed: {figures['speed_ratio']:.0f} times real time (crossroads, one instance)")
    figures["picking"] = picking(held_out, options.runs, calibration)
    figures["picking"]["noise_floor_satisfied_ratio"] = max(noise)
    print(f"  two equal runs differ by {max(noise):.3f} in satisfied windows of such a horizon")
    print(f"written to {write('whatif', figures)}")
    held = bounds(figures)
    for bound, holds in held.items():
        print(f"{'holds' if holds else 'does not hold'}: {bound}")
    return 0 if all(held.values()) else 1


def bounds(figures: dict[str, Any]) -> dict[str, bool]:
    """Each in words, and whether it holds."""

    def worst(name: str) -> float:
        return max(float(figures[f"held_out_{s}"][name]) for s in ("crossroads", "market"))

    delay, rate = worst("mean_delay_error_ratio"), worst("throughput_error_ratio")
    speed_ratio, best = figures["speed_ratio"], figures["picking"]["all"]["ratio"]
    return {
        f"mean delay within 10 %: {delay:.1%}": delay <= 0.10,
        f"throughput within 10 %: {rate:.2%}": rate <= 0.10,
        f"200 times real time: {speed_ratio:.0f}": speed_ratio >= 200,
        f"best of four in 90 % of forks: {best:.0%}": best >= 0.9,
    }


def picking(held_out: dict[Case, Recorded], runs: Path, calibration: Calibration) -> dict[str, Any]:
    forecast = OnnxForecast()
    found = [
        pick
        for case, recorded in held_out.items()
        for pick in picks(runs / case.name, recorded, calibration, forecast)
    ]
    figures = judged([Choice(p.chosen, p.true) for p in found], PICK_TIE)
    print(f"\nforks over {HORIZON_S:g} s on held-out runs, outcomes emulated: {words(figures)}")
    return {**figures, "each": [asdict(p) for p in found]}


if __name__ == "__main__":
    raise SystemExit(main())
