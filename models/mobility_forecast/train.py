"""Training: `python -m models.mobility_forecast.train [--traces FOLDER]`, a minute or two on a CPU.

Makes drives, trains, exports ONNX, measures it on held-out drives and writes
`model.onnx`, `model.json`, `weights.npz`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch

from models.demand_forecast.evaluate import traces_folder
from models.mobility_forecast.dataset import Ways
from models.mobility_forecast.evaluate import (
    FOLDER,
    HELD_OUT_SEEDS,
    TRAINING_SEEDS,
    metrics,
    onnx_forecast,
    sources,
    table_text,
)
from models.mobility_forecast.export import contract_of
from models.mobility_forecast.network import MobilityForecast, loss_of, pace_of
from models.mobility_forecast.shape import HISTORY_STEPS, HORIZONS_S, SAMPLE_PERIOD_S
from models.onnx_export import onnx_bytes
from models.traces import TraceError
from models.training import Course, Rows, described, keep, options_parser, trained, written

BATCH = 512
EPOCHS = 12


def fitted(ways: Ways, course: Course) -> MobilityForecast:
    ahead = torch.tensor([h / SAMPLE_PERIOD_S for h in HORIZONS_S])

    def loss(network: MobilityForecast, chosen: Rows) -> torch.Tensor:
        positions = torch.from_numpy(ways.positions[chosen])
        target = torch.from_numpy(ways.target[chosen])
        scale = pace_of(positions[:, 1:] - positions[:, :-1]) * ahead
        displacement, radius = network(positions)
        return loss_of(displacement, radius, target, scale)

    return trained(MobilityForecast, loss, len(ways.target), course)


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
    ways = Ways.joined(training.ways.values())
    print(f"{len(ways.target)} samples after {time.monotonic() - started_s:.0f} s", flush=True)
    network = fitted(ways, Course(options.seed, options.epochs, BATCH))
    example = torch.rand(2, HISTORY_STEPS, 2)
    content = onnx_bytes(network, example, "positions", ["displacement", "radius"])
    path = written(options.out, content)
    table = metrics(onnx_forecast(path), ways, held_out.ways)
    training_facts = {
        "command": f"python -m models.mobility_forecast.train --seed {options.seed} "
        f"--epochs {options.epochs}" + (" --traces FOLDER" if traces else ""),
        "seed": options.seed,
        "scenario_seeds": [TRAINING_SEEDS[0], TRAINING_SEEDS[-1]],
        "held_out_scenario_seeds": [HELD_OUT_SEEDS[0], HELD_OUT_SEEDS[-1]],
        "samples": {name: len(w.target) for name, w in training.ways.items()},
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
