"""Metrics of the exported model on held-out drives, beside what needs no model.

`python -m models.residence_forecast.evaluate` prints the table; training writes the same
figures into model.json.  Needs no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from models.mobility_forecast.dataset import FloatArray
from models.residence_forecast.dataset import Float32Array, Residences, residences
from models.residence_forecast.shape import (
    MARGIN_SCALE_DB,
    QUANTILES,
    SLOPE_SCALE_DB,
    STAY_HORIZON_S,
    STAY_SCALE_S,
    UNTIL_HORIZON_S,
    UNTIL_SCALE_S,
)

FOLDER = Path(__file__).resolve().parent
TRAINING_SEED, HELD_OUT_SEED = 100, 200
TRAINING_DRIVES, HELD_OUT_DRIVES = 900, 150
TRIGGER_DB = 2.0
"""Middle of the hystereses: where a margin that goes on as it does would hand over."""
Point = Callable[[Float32Array], FloatArray]


def metrics(
    training: Residences, held_out: Residences, folder: Path = FOLDER
) -> dict[str, dict[str, dict[str, float]]]:
    """quantity -> forecaster -> figures, in seconds."""
    until_s, stay_s = onnx_residence(folder / "model.onnx")(held_out.features)
    begins = ~np.isnan(held_out.stay_s)
    stays = Residences(held_out.features[begins], held_out.until_s[begins], held_out.stay_s[begins])
    known = ~np.isnan(training.stay_s)
    return {
        "until": {
            "model": figures(until_s, held_out.until_s),
            **_baseline("margin goes on", margin_goes_on, training, held_out, "until_s"),
            **_baseline("not soon", not_soon, training, held_out, "until_s"),
        },
        "stay": {
            "model": figures(stay_s[begins], stays.stay_s),
            **_baseline(
                "as before",
                as_before,
                Residences(
                    training.features[known], training.until_s[known], training.stay_s[known]
                ),
                stays,
                "stay_s",
            ),
        },
    }


def margin_goes_on(features: Float32Array) -> FloatArray:
    margin_db = features[:, 0].astype(float) * MARGIN_SCALE_DB
    slope_db = np.maximum(features[:, 1].astype(float) * SLOPE_SCALE_DB, 1e-3)
    waited_s = np.clip((TRIGGER_DB - margin_db) / slope_db, 0.0, UNTIL_HORIZON_S)
    return np.where(features[:, 11] > 0, 0.0, waited_s)


def not_soon(features: Float32Array) -> FloatArray:
    return np.where(features[:, 11] > 0, 0.0, UNTIL_HORIZON_S)


def as_before(features: Float32Array) -> FloatArray:
    """The mean of this user's earlier stays in the cell, less what has passed of this one."""
    mean_s = np.where(features[:, 15] > 0, features[:, 14] * STAY_SCALE_S, STAY_HORIZON_S / 2)
    passed_s = features[:, 11] * features[:, 12] * STAY_SCALE_S
    return np.asarray(np.clip(mean_s - passed_s, 0.0, STAY_HORIZON_S), dtype=np.float64)


def _baseline(
    name: str, point: Point, training: Residences, held_out: Residences, quantity: str
) -> dict[str, dict[str, float]]:
    """A point forecast with the quantiles of its own errors in training."""
    errors = getattr(training, quantity) - point(training.features)
    spread = np.quantile(errors, QUANTILES)
    forecast = np.maximum(0.0, point(held_out.features)[:, None] + spread)
    return {name: figures(forecast, getattr(held_out, quantity))}


def figures(forecast_s: FloatArray, truth_s: FloatArray) -> dict[str, float]:
    error = truth_s[:, None] - forecast_s
    levels = np.array(QUANTILES)
    pinball = np.maximum(levels * error, (levels - 1) * error).mean()
    within = (truth_s >= forecast_s[:, 0] - 0.25) & (truth_s <= forecast_s[:, -1] + 0.25)
    return {
        "pinball_s": round(float(pinball), 4),
        "mae_s": round(float(np.abs(error[:, 1]).mean()), 3),
        "coverage_p10_p90": round(float(within.mean()), 3),
    }


def onnx_residence(path: Path) -> Callable[[Float32Array], tuple[FloatArray, FloatArray]]:
    """(until_s, stay_s), each [n, 3]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def forecast(features: Float32Array) -> tuple[FloatArray, FloatArray]:
        parts = [
            session.run(None, {"features": features[at : at + 4096]})
            for at in range(0, len(features), 4096)
        ]
        until, stay = (np.concatenate(p).astype(np.float64) for p in zip(*parts, strict=True))
        return UNTIL_SCALE_S * until, STAY_SCALE_S * stay

    return forecast


def table_text(table: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for quantity, rows in table.items():
        for name, row in rows.items():
            shown = "  ".join(f"{k} {v:.3f}" for k, v in row.items())
            lines.append(f"{quantity:6} {name:16} {shown}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    training = residences(TRAINING_SEED, TRAINING_DRIVES // 4)
    table = metrics(training, residences(HELD_OUT_SEED, HELD_OUT_DRIVES))
    print(json.dumps(table, indent=2) if options.json else table_text(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
