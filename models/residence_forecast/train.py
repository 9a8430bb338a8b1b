"""Training: `python -m models.residence_forecast.train`, about two minutes on a CPU.

Simulates drives, trains, exports ONNX, measures it on held-out drives and writes
`model.onnx`, `model.json`, `weights.npz`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from models.onnx_export import onnx_bytes
from models.residence_forecast.dataset import Residences, residences
from models.residence_forecast.evaluate import (
    FOLDER,
    HELD_OUT_DRIVES,
    HELD_OUT_SEED,
    TRAINING_DRIVES,
    TRAINING_SEED,
    metrics,
    table_text,
)
from models.residence_forecast.export import contract_of
from models.residence_forecast.network import ResidenceForecast, loss_of
from models.residence_forecast.shape import FEATURES, STAY_SCALE_S, UNTIL_SCALE_S
from models.training import Course, Rows, described, keep, options_parser, trained, written

BATCH = 1024
EPOCHS = 10


def fitted(rows: Residences, course: Course) -> ResidenceForecast:
    features = torch.from_numpy(rows.features)
    until = torch.from_numpy((rows.until_s / UNTIL_SCALE_S).astype(np.float32))
    stay = torch.from_numpy((rows.stay_s / STAY_SCALE_S).astype(np.float32))

    def loss(network: ResidenceForecast, chosen: Rows) -> torch.Tensor:
        index = torch.from_numpy(chosen)
        forecast_until, forecast_stay = network(features[index])
        return loss_of(forecast_until, forecast_stay, until[index], stay[index])

    return trained(ResidenceForecast, loss, len(rows.until_s), course)


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_parser(__doc__, FOLDER, EPOCHS).parse_args(arguments)
    started_s = time.monotonic()
    training = residences(TRAINING_SEED, TRAINING_DRIVES)
    held_out = residences(HELD_OUT_SEED, HELD_OUT_DRIVES)
    print(f"{len(training.until_s)} rows after {time.monotonic() - started_s:.0f} s", flush=True)
    network = fitted(training, Course(options.seed, options.epochs, BATCH))
    example = torch.rand(2, len(FEATURES))
    content = onnx_bytes(network, example, "features", ["until", "stay"])
    path = written(options.out, content)
    table = metrics(training, held_out, options.out)
    training_facts = {
        "command": f"python -m models.residence_forecast.train --seed {options.seed} "
        f"--epochs {options.epochs}",
        "seed": options.seed,
        "world_seeds": {"training": TRAINING_SEED, "held_out": HELD_OUT_SEED},
        "drives": {"training": TRAINING_DRIVES, "held_out": HELD_OUT_DRIVES},
        "rows": {"training": len(training.until_s), "held_out": len(held_out.until_s)},
        **described(network),
    }
    contract = contract_of(content, training.features, training_facts, table)
    keep(network, content, contract, options.out, FOLDER)
    print(table_text(table))
    print(f"{path}: {len(content)} bytes, {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
