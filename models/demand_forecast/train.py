"""Training: `python -m models.demand_forecast.train [--traces FOLDER]`, some minutes on a CPU.

Makes the training windows, trains with pinball loss, exports ONNX, measures it on
held-out data and writes `model.onnx`, `model.json` and the hash in every xApp
descriptor that names the model.  The same windows (`windows_sha256` in model.json) and
seed on the same machine give the same file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from models.contract import verify
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
from models.onnx_export import MODEL_FILE, onnx_bytes, publish
from models.traces import TraceError

BATCH = 512
EPOCHS = 12
LEARNING_RATE = 4e-3
WEIGHTS_FILE = "weights.npz"
PROJECT = FOLDER.parents[1]


def batches(windows: Windows, random: np.random.Generator) -> Iterator[Windows]:
    order = random.permutation(len(windows.target))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield Windows(windows.history[chosen], windows.target[chosen])


def trained(windows: Windows, seed: int, epochs: int) -> DemandForecast:
    """A network trained on the windows; the learning rate rises, then falls to nothing."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    random = np.random.default_rng(seed)
    network = DemandForecast()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-4)
    steps = epochs * (len(windows.target) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(epochs):
        losses = []
        for batch in batches(windows, random):
            history = torch.from_numpy(batch.history)
            target = torch.from_numpy(batch.target)
            loss = pinball_loss(network(history), target, scale_of(history))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: pinball {np.mean(losses):.5f}", flush=True)
    return network


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", help="folder of the 5G traces; without it none are used")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for model.onnx")
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
    network = trained(windows, options.seed, options.epochs)
    content = onnx_bytes(network, torch.rand(2, HISTORY_STEPS, 2), "history", ["quantiles"])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / MODEL_FILE).write_bytes(content)
    table = metrics(onnx_forecast(options.out / MODEL_FILE), windows, held_out.windows)
    described = {
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
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    ours = options.out.resolve() == FOLDER
    descriptors = sorted(PROJECT.glob("xapps/*/config-file.json")) if ours else []
    publish(options.out, content, contract_of(content, described, table), descriptors)
    # What the tests compare the exported file with.
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    np.savez(options.out / WEIGHTS_FILE, **weights)
    verify(options.out)
    print(table_text(table))
    print(f"{options.out / MODEL_FILE}: {len(content)} bytes, {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
