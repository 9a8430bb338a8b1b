"""Metrics of the exported model on held-out drives, next to its baselines.

`python -m models.mobility_forecast.evaluate [--traces FOLDER]` prints the table; training
writes the same figures into model.json.  Needs no torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from models.demand_forecast.evaluate import traces_folder
from models.mobility_forecast.baselines import baselines, distances, persistence
from models.mobility_forecast.dataset import (
    FloatArray,
    Ways,
    drive,
    emulated_speeds,
    reported,
    scenario_tracks,
    trace_speeds,
    ways_of,
)
from models.mobility_forecast.shape import HORIZONS_S, POSITION_SCALE_M, RADIUS_QUANTILES
from models.traces import FOLDER_VARIABLE, Trace, TraceError, is_held_out, load_traces
from topologies.scenario.loader import load

FOLDER = Path(__file__).resolve().parent
TRAINING_SEEDS = range(100, 121)
HELD_OUT_SEEDS = range(200, 211)
DRIVES = {"training": 700, "held out": 120}
WAYS_PER_SOURCE = {"scenarios": 20_000, "emulated drives": 40_000, "5g-traces drives": 60_000}
HELD_OUT_WAYS = 15_000

Forecast = Callable[[np.ndarray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class Sources:
    """Samples by source; `traces` is how many trace files they come from."""

    ways: dict[str, Ways]
    traces: int


def sources(part: str, seed: int, folder: Path | None) -> Sources:
    """`part`: training or held out.  Scenarios by seeds, traces by file, roads by generator."""
    seeds = TRAINING_SEEDS if part == "training" else HELD_OUT_SEEDS
    random = np.random.default_rng([seed, seeds[0]])
    crossroads = load("crossroads")
    found = {
        "scenarios": [
            ways_of(t, reported(random, t))
            for s in seeds
            for t in scenario_tracks(crossroads, s, 150.0)
        ],
        "emulated drives": _drives(random, emulated_speeds(DRIVES[part], random)),
    }
    traces: list[Trace] = []
    if folder is not None:
        wanted = part != "training"
        traces = [
            t for t in load_traces(folder) if is_held_out(t) == wanted and t.mobility == "Driving"
        ]
        found["5g-traces drives"] = _drives(random, trace_speeds(traces, DRIVES[part], random))
    ways = {}
    for name, parts in found.items():
        count = WAYS_PER_SOURCE[name] if part == "training" else HELD_OUT_WAYS
        ways[name] = moving(Ways.joined(parts)).thinned(count, random)
    return Sources(ways, len(traces))


def _drives(random: np.random.Generator, speeds: list[FloatArray]) -> list[Ways]:
    tracks = [drive(random, speed) for speed in speeds]
    return [ways_of(track, reported(random, track)) for track in tracks]


def moving(ways: Ways) -> Ways:
    """Who stands before and after is easy to forecast; one in ten of them stays in."""
    way = np.linalg.norm(ways.target, axis=2).max(axis=1) + np.ptp(ways.positions, axis=1).max(
        axis=1
    )
    kept = (way > 0.02) | (np.arange(len(way)) % 10 == 0)
    return Ways(ways.positions[kept], ways.target[kept])


def metrics(
    forecast: Forecast, training: Ways, held_out: dict[str, Ways]
) -> dict[str, dict[str, dict[str, float]]]:
    """source -> forecaster -> figures.

    `distance_m`: mean over horizons between the forecast point and the truth, and per
    horizon.  `mase`: over that of persistence.  `radius_p90_m`: how wide the 0.9 radius
    is, mean over horizons; `coverage_*`: share of truths within the radius.
    """
    fitted = baselines(training)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for source, ways in held_out.items():
        forecasts = {"model": forecast(ways.positions)}
        forecasts |= {b.name: b.forecast(ways.positions) for b in fitted}
        table[source] = {name: figures(d, r, ways) for name, (d, r) in forecasts.items()}
    return table


def figures(displacement: FloatArray, radius: FloatArray, ways: Ways) -> dict[str, float]:
    distance = distances(displacement, ways)
    naive = distances(persistence(ways.positions), ways).mean()
    within = (distance[:, :, None] <= radius).mean(axis=(0, 1))
    return {
        "distance_m": round(POSITION_SCALE_M * float(distance.mean()), 3),
        **{
            f"distance_{h:g}s_m": round(POSITION_SCALE_M * float(d), 3)
            for h, d in zip(HORIZONS_S, distance.mean(axis=0), strict=True)
        },
        "mase": round(float(distance.mean() / naive), 3),
        "radius_p90_m": round(POSITION_SCALE_M * float(radius[:, :, -1].mean()), 3),
        **{
            f"coverage_p{level * 100:g}": round(float(share), 3)
            for level, share in zip(RADIUS_QUANTILES, within, strict=True)
        },
    }


def onnx_forecast(path: Path) -> Forecast:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def forecast(positions: np.ndarray) -> tuple[FloatArray, FloatArray]:
        parts = [
            session.run(None, {"positions": positions[at : at + 4096]})
            for at in range(0, len(positions), 4096)
        ]
        displacement, radius = (
            np.concatenate(p).astype(np.float64) for p in zip(*parts, strict=True)
        )
        return displacement, radius

    return forecast


def table_text(table: dict[str, dict[str, dict[str, float]]]) -> str:
    columns = list(next(iter(next(iter(table.values())).values())))
    lines = [f"{'held out':17} {'forecaster':22}" + "".join(f"{c:>15}" for c in columns)]
    for source, rows in table.items():
        for name, row in rows.items():
            lines.append(f"{source:17} {name:22}" + "".join(f"{row[c]:15.3f}" for c in columns))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", help=f"folder of the 5G traces (or {FOLDER_VARIABLE})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    folder = traces_folder(options.traces)
    if folder is None:
        print(f"no 5G traces: neither --traces nor {FOLDER_VARIABLE}; evaluating without them")
    try:
        training = Ways.joined(sources("training", options.seed, folder).ways.values())
        held_out = sources("held out", options.seed, folder).ways
    except TraceError as error:
        raise SystemExit(str(error)) from error
    table = metrics(onnx_forecast(FOLDER / "model.onnx"), training, held_out)
    print(json.dumps(table, indent=2) if options.json else table_text(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
