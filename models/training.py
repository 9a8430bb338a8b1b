"""What training programs share: the loop, the command's options, where files go. Needs torch.

Same rows, seed and machine: the same weights, hence the same file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from models.contract import Contract, verify
from models.onnx_export import MODEL_FILE, publish

Rows = npt.NDArray[np.int64]
Network = TypeVar("Network", bound=torch.nn.Module)

LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-4
GRADIENT_NORM_MAX = 1.0
WEIGHTS_FILE = "weights.npz"
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Course:
    """How long and in what portions; rows left over by the last whole batch sit out an epoch."""

    seed: int
    epochs: int
    batch: int


def trained(
    make: Callable[[], Network],
    loss_of: Callable[[Network, Rows], torch.Tensor],
    rows: int,
    course: Course,
) -> Network:
    """A network trained on so many rows; the learning rate rises, then falls to nothing.

    `loss_of`: of the network on the rows of these indices, a scalar.
    """
    torch.manual_seed(course.seed)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    random = np.random.default_rng(course.seed)
    network = make()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = course.epochs * (rows // course.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(course.epochs):
        losses = []
        order = random.permutation(rows)
        for start in range(0, rows - course.batch + 1, course.batch):
            loss = loss_of(network, order[start : start + course.batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM_MAX)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{course.epochs}: loss {np.mean(losses):.5f}", flush=True)
    return network


def options_parser(description: str | None, folder: Path, epochs: int) -> argparse.ArgumentParser:
    """`folder`, `epochs`: the model's own, unless the command says otherwise."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--out", type=Path, default=folder, help="folder for model.onnx")
    return parser


def written(folder: Path, content: bytes) -> Path:
    """The model's file, there to be measured before its contract is known."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    path.write_bytes(content)
    return path


def described(network: torch.nn.Module) -> dict[str, Any]:
    """What every model's contract says of its training besides its data."""
    return {
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def keep(
    network: torch.nn.Module, content: bytes, contract: Contract, out: Path, folder: Path
) -> None:
    """Model, contract and weights in `out`; where that is the model's own `folder`, the hash in
    every xApp that names it.  Raises `ContractError` when file and contract disagree."""
    ours = out.resolve() == folder
    descriptors = sorted(PROJECT.glob("xapps/*/config-file.json")) if ours else []
    publish(out, content, contract, descriptors)
    # What the tests compare the exported file with.
    weights: dict[str, Any] = {k: tensor.numpy() for k, tensor in network.state_dict().items()}
    np.savez(out / WEIGHTS_FILE, **weights)
    verify(out)
