"""Metrics of the exported model on held-out data, next to its baselines.

`python -m models.demand_forecast.evaluate [--traces FOLDER]` prints the table; training
writes the same figures into model.json.  Needs no torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from models.demand_forecast.baselines import baselines, persistence, pinball
from models.demand_forecast.dataset import (
    FloatArray,
    Windows,
    random_series,
    scenario_series,
    trace_series,
    windows_of,
)
from models.demand_forecast.shape import QUANTILES
from models.traces import FOLDER_VARIABLE, TraceError, is_held_out, load_traces
from topologies.scenario.errors import ScenarioError
from topologies.scenario.loader import load

FOLDER = Path(__file__).resolve().parent
SCENARIOS = ("crossroads", "minimal")
TRAINING_SEEDS = range(100, 161)
HELD_OUT_SEEDS = range(200, 221)
DURATION_S = 120.0
WINDOWS_PER_SOURCE = {"scenarios": 60_000, "random": 90_000, "5g-traces": 40_000}
HELD_OUT_WINDOWS = 20_000
RANDOM_SERIES = {"training": 900, "held out": 150}
TRACE_SERIES = {"training": 320, "held out": 120}


@dataclass(frozen=True)
class Sources:
    """Windows by source; `traces` is how many trace files they come from."""

    windows: dict[str, Windows]
    traces: int


def sources(part: str, seed: int, traces_folder: Path | None) -> Sources:
    """`part`: training or held out.  Scenarios by seeds, traces by file, random by generator."""
    seeds = TRAINING_SEEDS if part == "training" else HELD_OUT_SEEDS
    random = np.random.default_rng([seed, seeds[0]])
    series = {
        "scenarios": [
            found
            for name in _present_scenarios()
            for scenario_seed in seeds
            for found in scenario_series(load(name), scenario_seed, DURATION_S)
        ],
        "random": [random_series(random, DURATION_S) for _ in range(RANDOM_SERIES[part])],
    }
    traces = []
    if traces_folder is not None:
        wanted = part != "training"
        traces = [t for t in load_traces(traces_folder) if is_held_out(t) == wanted]
        series["5g-traces"] = trace_series(traces, TRACE_SERIES[part], DURATION_S, random)
    windows = {}
    for name, found in series.items():
        count = WINDOWS_PER_SOURCE[name] if part == "training" else HELD_OUT_WINDOWS
        # A slice nobody uses is easy to forecast; it would only flatter the figures.
        alive = [s for s in found if s.demand_kbps.max() > 0]
        windows[name] = Windows.joined(windows_of(s) for s in alive).thinned(count, random)
    return Sources(windows, len(traces))


def _present_scenarios() -> list[str]:
    found = []
    for name in SCENARIOS:
        try:
            load(name)
        except ScenarioError as error:
            raise SystemExit(f"cannot train on scenario {name}: {error}") from error
        found.append(name)
    return found


def metrics(
    forecast: Callable[[Windows], FloatArray], training: Windows, held_out: dict[str, Windows]
) -> dict[str, dict[str, dict[str, float]]]:
    """source -> forecaster -> figures.

    `pinball`: mean over the quantiles, in thousandths of the capacity.  `mase`: mean
    absolute error of the median over that of persistence.  `coverage_*`: share of
    maxima at or below the quantile.
    """
    fitted = {b.name: b for b in baselines(training)}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for source, windows in held_out.items():
        forecasts = {"model": forecast(windows)}
        forecasts |= {name: b.quantiles(windows.history) for name, b in fitted.items()}
        table[source] = {name: figures(q, windows) for name, q in forecasts.items()}
    return table


def figures(quantiles: FloatArray, windows: Windows) -> dict[str, float]:
    naive_error = np.abs(windows.target - persistence(windows.history)).mean()
    covered = (windows.target[:, None] <= quantiles).mean(axis=0)
    return {
        "pinball": round(1000 * pinball(quantiles, windows), 3),
        "mase": round(float(np.abs(windows.target - quantiles[:, 0]).mean() / naive_error), 3),
        **{
            f"coverage_p{level * 100:g}": round(float(share), 3)
            for level, share in zip(QUANTILES, covered, strict=True)
        },
    }


def onnx_forecast(path: Path) -> Callable[[Windows], FloatArray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def forecast(windows: Windows) -> FloatArray:
        (quantiles,) = session.run(None, {"history": windows.history})
        return np.asarray(quantiles, dtype=np.float64)

    return forecast


def traces_folder(argument: str | None) -> Path | None:
    """The set's folder, from the command line or the environment; None without one."""
    name = argument or os.environ.get(FOLDER_VARIABLE)
    return Path(name) if name else None


def table_text(table: dict[str, dict[str, dict[str, float]]]) -> str:
    columns = list(next(iter(next(iter(table.values())).values())))
    lines = [f"{'held out':12} {'forecaster':22}" + "".join(f"{c:>15}" for c in columns)]
    for source, rows in table.items():
        for name, row in rows.items():
            lines.append(f"{source:12} {name:22}" + "".join(f"{row[c]:15.3f}" for c in columns))
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
        training = Windows.joined(sources("training", options.seed, folder).windows.values())
        held_out = sources("held out", options.seed, folder).windows
    except TraceError as error:
        raise SystemExit(str(error)) from error
    table = metrics(onnx_forecast(FOLDER / "model.onnx"), training, held_out)
    print(json.dumps(table, indent=2) if options.json else table_text(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
