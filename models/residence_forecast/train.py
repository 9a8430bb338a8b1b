"""Training: `python -m models.residence_forecast.train`, about two minutes on a CPU.

Simulates drives, trains, exports ONNX, measures it on held-out drives and writes
`model.onnx`, `model.json`, `weights.npz`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.contract import verify
from models.onnx_export import MODEL_FILE, onnx_bytes, publish
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

BATCH = 1024
EPOCHS = 10
LEARNING_RATE = 4e-3
WEIGHTS_FILE = "weights.npz"
PROJECT = FOLDER.parents[1]


def trained(rows: Residences, seed: int, epochs: int) -> ResidenceForecast:
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    random = np.random.default_rng(seed)
    network = ResidenceForecast()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-4)
    steps = epochs * (len(rows.until_s) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    features = torch.from_numpy(rows.features)
    until = torch.from_numpy((rows.until_s / UNTIL_SCALE_S).astype(np.float32))
    stay = torch.from_numpy((rows.stay_s / STAY_SCALE_S).astype(np.float32))
    for epoch in range(epochs):
        losses = []
        order = random.permutation(len(rows.until_s))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = torch.from_numpy(order[start : start + BATCH])
            forecast_until, forecast_stay = network(features[chosen])
            loss = loss_of(forecast_until, forecast_stay, until[chosen], stay[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.5f}", flush=True)
    return network


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for model.onnx")
    options = parser.parse_args(arguments)
    started_s = time.monotonic()
    training = residences(TRAINING_SEED, TRAINING_DRIVES)
    held_out = residences(HELD_OUT_SEED, HELD_OUT_DRIVES)
    print(f"{len(training.until_s)} rows after {time.monotonic() - started_s:.0f} s", flush=True)
    network = trained(training, options.seed, options.epochs)
    example = torch.rand(2, len(FEATURES))
    content = onnx_bytes(network, example, "features", ["until", "stay"])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / MODEL_FILE).write_bytes(content)
    table = metrics(training, held_out, options.out)
    described = {
        "command": f"python -m models.residence_forecast.train --seed {options.seed} "
        f"--epochs {options.epochs}",
        "seed": options.seed,
        "world_seeds": {"training": TRAINING_SEED, "held_out": HELD_OUT_SEED},
        "drives": {"training": TRAINING_DRIVES, "held_out": HELD_OUT_DRIVES},
        "rows": {"training": len(training.until_s), "held_out": len(held_out.until_s)},
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    ours = options.out.resolve() == FOLDER
    descriptors = sorted(PROJECT.glob("xapps/*/config-file.json")) if ours else []
    contract = contract_of(content, training.features, described, table)
    publish(options.out, content, contract, descriptors)
    # What the tests compare the exported file with.
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    np.savez(options.out / WEIGHTS_FILE, **weights)
    verify(options.out)
    print(table_text(table))
    print(f"{options.out / MODEL_FILE}: {len(content)} bytes, {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
