"""Forecasts of demand and mobility against their baselines, on real 5G traces never trained on.

The traces are public and not part of the project: HOLON_5G_TRACES (or --traces) names their
folder.  Every fourth file is held out (`models/traces.py`); baselines are fitted on the others
and read the same histories.  Intervals are bootstrapped over
whole traces.  Loss: pinball of demand's quantiles, Winkler's score of mobility's discs.

`./testbed.sh bench forecasts [--traces DIR] [--write]`; `--write` puts the tables into the
models' READMEs.  Exit status 1 when a MASE is not below 0.9 or a baseline's loss is lower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecast_scores import (
    MODEL,
    IntArray,
    Losses,
    Ratio,
    as_json,
    markdown,
    misses,
    pinball,
    scored,
    winkler,
)
from benchmarks.runs import REPOSITORY, write
from models.demand_forecast import baselines as demand_baselines
from models.demand_forecast import evaluate as demand
from models.demand_forecast.dataset import Series, Windows, counted, trace_series, windows_of
from models.demand_forecast.shape import QUANTILES, SAMPLE_PERIOD_S
from models.mobility_forecast import baselines as mobility_baselines
from models.mobility_forecast import evaluate as mobility
from models.mobility_forecast.dataset import Ways, drive, reported, trace_speeds, ways_of
from models.mobility_forecast.shape import HORIZONS_S, RADIUS_QUANTILES
from models.traces import FOLDER_VARIABLE, Trace, TraceError, is_held_out, load_traces

SEED = 20
DURATION_S = 120.0
SLICES = {"training": 160, "held out": 120}
DRIVES_A_TRACE = 12
MOST_WINDOWS_A_TRACE = 1500
TABLE_BEGINS, TABLE_ENDS = "<!-- forecasts: begin -->", "<!-- forecasts: end -->"
PERSON = "single users"
SLICE = "slices of 2-8 users"

Table = dict[str, dict[str, dict[str, Ratio]]]


def split(folder: Path) -> dict[str, list[Trace]]:
    """Raises `TraceError`."""
    traces = load_traces(folder)
    return {
        "training": [t for t in traces if not is_held_out(t)],
        "held out": [t for t in traces if is_held_out(t)],
    }


def single_users(traces: Sequence[Trace], random: np.random.Generator) -> list[Series]:
    """A slice of one user: a whole trace, in a cell with 1-3 times its 0.99 quantile."""
    found = []
    for trace in traces:
        kbps = trace.sampled("downlink_kbps", SAMPLE_PERIOD_S)
        capacity_kbps = max(float(np.quantile(kbps, 0.99)) * random.uniform(1.0, 3.0), 5000.0)
        own = counted(np.minimum(kbps, 2 * capacity_kbps), random)
        found.append(Series(trace.name, own, np.ones(kbps.size), capacity_kbps))
    return found


def clustered(series: Sequence[Series], random: np.random.Generator) -> tuple[Windows, IntArray]:
    """At most `MOST_WINDOWS_A_TRACE` of each, so that no long trace speaks for all."""
    parts = [
        windows_of(s).thinned(MOST_WINDOWS_A_TRACE, random)
        for s in series
        if s.demand_kbps.max() > 0
    ]
    cluster = np.repeat(np.arange(len(parts)), [len(p.target) for p in parts])
    return Windows.joined(parts), cluster


def demand_table(traces: dict[str, list[Trace]], random: np.random.Generator) -> Table:
    made: dict[str, Callable[[str], list[Series]]] = {
        SLICE: lambda part: trace_series(traces[part], SLICES[part], DURATION_S, random),
        PERSON: lambda part: single_users(traces[part], random),
    }
    table: Table = {}
    forecast = demand.onnx_forecast(demand.FOLDER / "model.onnx")
    for source, series_of in made.items():
        training, _ = clustered(series_of("training"), random)
        held_out, cluster = clustered(series_of("held out"), random)
        quantiles = {MODEL: forecast(held_out)}
        for baseline in demand_baselines.baselines(training):
            quantiles[baseline.name] = baseline.quantiles(held_out.history)
        losses = {name: _demand_losses(q, held_out) for name, q in quantiles.items()}
        table[source] = scored(losses, cluster, random)
    return table


def _demand_losses(quantiles: Any, windows: Windows) -> Losses:
    error = windows.target[:, None] - quantiles
    return Losses(np.abs(error[:, 0]), pinball(error, QUANTILES))


def drives(traces: Sequence[Trace], random: np.random.Generator) -> tuple[Ways, IntArray]:
    """Emulated roads at the traces' real speeds, the same number for each trace."""
    parts, cluster = [], []
    for index, trace in enumerate(t for t in traces if t.mobility == "Driving"):
        for speed in trace_speeds([trace], DRIVES_A_TRACE, random):
            track = drive(random, speed)
            ways = mobility.moving(ways_of(track, reported(random, track)))
            parts.append(ways)
            cluster.append(np.full(len(ways.target), index))
    return Ways.joined(parts), np.concatenate(cluster)


def mobility_table(traces: dict[str, list[Trace]], random: np.random.Generator) -> Table:
    training, _ = drives(traces["training"], random)
    held_out, cluster = drives(traces["held out"], random)
    forecast = mobility.onnx_forecast(mobility.FOLDER / "model.onnx")
    found = {MODEL: forecast(held_out.positions)}
    for baseline in mobility_baselines.baselines(training):
        found[baseline.name] = baseline.forecast(held_out.positions)
    table: Table = {}
    for index, horizon_s in enumerate(HORIZONS_S):
        losses = {}
        for name, (displacement, radius) in found.items():
            distance = mobility_baselines.distances(displacement, held_out)[:, index]
            loss = winkler(distance, radius[:, index], RADIUS_QUANTILES)
            losses[name] = Losses(distance, loss)
        table[f"in {horizon_s:g} s"] = scored(losses, cluster, random)
    return table


def put_into(readme: Path, table: Table) -> None:
    """Between the two marks; raises ValueError when the page has none."""
    page = readme.read_text()
    before, rest = page.split(TABLE_BEGINS)
    _, after = rest.split(TABLE_ENDS)
    readme.write_text(f"{before}{TABLE_BEGINS}\n{markdown(table)}\n{TABLE_ENDS}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", help=f"folder of the 5G traces (or {FOLDER_VARIABLE})")
    parser.add_argument("--write", action="store_true", help="tables into the models' READMEs")
    options = parser.parse_args()
    folder = demand.traces_folder(options.traces)
    if folder is None:
        print(f"skipped: no 5G traces; --traces or {FOLDER_VARIABLE} names their folder")
        return 0
    try:
        traces = split(folder)
    except TraceError as error:
        raise SystemExit(str(error)) from None
    random = np.random.default_rng(SEED)
    tables = {
        "demand_forecast": demand_table(traces, random),
        "mobility_forecast": mobility_table(traces, random),
    }
    failed = []
    for name, table in tables.items():
        print(f"\n{name}\n{markdown(table)}")
        failed += [f"{name}: {miss}" for miss in misses(table)]
        if options.write:
            put_into(REPOSITORY / "models" / name / "README.md", table)
    figures = {name: as_json(table) for name, table in tables.items()}
    counts = {part: len(found) for part, found in traces.items()}
    print(f"\nwritten to {write('forecasts', {'trace_files': counts, 'seed': SEED, **figures})}")
    for miss in failed:
        print(f"does not hold: {miss}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
