"""The loop that all models are trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (requirements/train.in)")

from models.training import Course, Rows, options_parser, trained  # noqa: E402

X = np.linspace(-1, 1, 100, dtype=np.float32)[:, None]
Y = X + 0.5


def line(seed: int, epochs: int = 400, seen: list[Rows] | None = None) -> list[float]:
    """Slope and offset of a line that was trained on points of one."""

    def loss(network: torch.nn.Linear, chosen: Rows) -> torch.Tensor:
        if seen is not None:
            seen.append(chosen)
        error = network(torch.from_numpy(X[chosen])) - torch.from_numpy(Y[chosen])
        return (error**2).mean()

    network = trained(lambda: torch.nn.Linear(1, 1), loss, len(X), Course(seed, epochs, 32))
    return [network.weight.item(), network.bias.item()]


def test_it_learns_and_the_same_seed_learns_the_same() -> None:
    assert line(seed=1) == pytest.approx([1.0, 0.5], abs=0.05)
    assert line(seed=1, epochs=3) == line(seed=1, epochs=3) != line(seed=2, epochs=3)


def test_every_epoch_goes_through_all_rows_in_another_order() -> None:
    seen: list[Rows] = []
    line(seed=1, epochs=4, seen=seen)
    assert len(seen) == 4 * 3 and {len(rows) for rows in seen} == {32}
    first, second = (np.concatenate(seen[at : at + 3]) for at in (0, 3))
    assert len(set(first.tolist())) == 96, "none twice; the rest of the last batch sits out"
    assert (first != second).any()


def test_options_say_the_models_own_where_the_command_does_not(tmp_path: Path) -> None:
    parser = options_parser("text", tmp_path, 7)
    assert vars(parser.parse_args([])) == {"seed": 1, "epochs": 7, "out": tmp_path}
    assert parser.parse_args(["--epochs", "2", "--seed", "5"]).epochs == 2
