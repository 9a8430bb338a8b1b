"""Training: `python -m models.demand_forecast.train [--traces FOLDER]`, some minutes on a CPU.

Makes the training windows, trains with pinball loss, exports ONNX, measures it on
held-out data and writes `model.onnx`, `model.json` and the hash in every xApp
descriptor that names the model.  The same windows (`windows_sha256` in model.json) and
seed on the same machine give the same file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch

from models.demand_forecast.dataset import Windows
from models.demand_forecast.evaluate import (
    FOLDER,
    HELD_OUT_SEEDS,
    SCENARIOS,
    TRAINING_SEEDS,
    metrics,
    onnx_forecast,
    sources,
    table_text,
    traces_folder,
)
from models.demand_forecast.export import contract_of
from models.demand_forecast.network import DemandForecast, pinball_loss, scale_of
from models.demand_forecast.shape import HISTORY_STEPS
from models.onnx_export import onnx_bytes
from models.traces import TraceError
from models.training import Course, Rows, described, keep, options_parser, trained, written

BATCH = 512
EPOCHS = 12


def fitted(windows: Windows, course: Course) -> DemandForecast:
    def loss(network: DemandForecast, chosen: Rows) -> torch.Tensor:
        history = torch.from_numpy(windows.history[chosen])
        target = torch.from_numpy(windows.target[chosen])
        return pinball_loss(network(history), target, scale_of(history))

    return trained(DemandForecast, loss, len(windows.target), course)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options_parser(__doc__, FOLDER, EPOCHS)
    parser.add_argument("--traces", help="folder of the 5G traces; without it none are used")
    options = parser.parse_args(arguments)
    started_s = time.monotonic()
    traces = traces_folder(options.traces)
    try:
        training = sources("training", options.seed, traces)
        held_out = sources("held out", options.seed, traces)
    except TraceError as error:
        raise SystemExit(str(error)) from error
    windows = Windows.joined(training.windows.values())
    print(f"{len(windows.target)} windows after {time.monotonic() - started_s:.0f} s", flush=True)
    network = fitted(windows, Course(options.seed, options.epochs, BATCH))
    content = onnx_bytes(network, torch.rand(2, HISTORY_STEPS, 2), "history", ["quantiles"])
    path = written(options.out, content)
    table = metrics(onnx_forecast(path), windows, held_out.windows)
    training_facts = {
        "command": f"python -m models.demand_forecast.train --seed {options.seed} "
        f"--epochs {options.epochs}" + (" --traces FOLDER" if traces else ""),
        "seed": options.seed,
        "scenarios": list(SCENARIOS),
        "scenario_seeds": [TRAINING_SEEDS[0], TRAINING_SEEDS[-1]],
        "held_out_scenario_seeds": [HELD_OUT_SEEDS[0], HELD_OUT_SEEDS[-1]],
        "windows": {name: len(w.target) for name, w in training.windows.items()},
        "windows_sha256": windows.digest(),
        "trace_files": training.traces,
        "held_out_trace_files": held_out.traces,
        **described(network),
    }
    contract = contract_of(content, training_facts, table)
    keep(network, content, contract, options.out, FOLDER)
    print(table_text(table))
    print(f"{path}: {len(content)} bytes, {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
