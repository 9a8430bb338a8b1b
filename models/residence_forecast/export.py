"""The contract of the exported network."""

from __future__ import annotations

import hashlib
from typing import Any

from models.contract import Contract
from models.onnx_export import MODEL_FILE, OPSET
from models.residence_forecast.dataset import Float32Array
from models.residence_forecast.shape import (
    FEATURES,
    HORIZONS_S,
    MARGIN_SCALE_DB,
    QUANTILES,
    RADIUS_SCALE_M,
    SAMPLE_PERIOD_S,
    SLOPE_SCALE_DB,
    SPEED_SCALE_MPS,
    STAY_HORIZON_S,
    STAY_SCALE_S,
    STAYS_REMEMBERED,
    UNTIL_HORIZON_S,
    UNTIL_SCALE_S,
)

VERSION = "1.0.0"
LATENCY_BUDGET_MS = 1.0
_UNITS = (
    ("connectivity.rsrp_dbm-margin", "dB", MARGIN_SCALE_DB),
    ("connectivity.rsrp_dbm-margin-change", "dB/s", SLOPE_SCALE_DB),
    *((f"user.location_m-margin-in-{h:g}s", "dB", MARGIN_SCALE_DB) for h in HORIZONS_S),
    *((f"user.location_m-radius-in-{h:g}s", "m", RADIUS_SCALE_M) for h in HORIZONS_S),
    ("user.speed_mps", "m/s", SPEED_SCALE_MPS),
    ("connectivity.serving_cell-is-this", "1", 1.0),
    ("connectivity.serving_cell-since", "s", STAY_SCALE_S),
    ("connectivity.serving_cell-last-stay", "s", STAY_SCALE_S),
    ("connectivity.serving_cell-mean-stay", "s", STAY_SCALE_S),
    ("connectivity.serving_cell-stays", "1", float(STAYS_REMEMBERED)),
    ("connectivity.serving_cell-mean-stay-there", "s", STAY_SCALE_S),
)


def contract_of(
    content: bytes, rows: Float32Array, training: dict[str, Any], metrics: dict[str, Any]
) -> Contract:
    """`rows`: what it was trained on, for the ranges."""
    document = {
        "name": "residence_forecast",
        "version": VERSION,
        "description": "When a user will be served by a cell and for how long, from its twin: "
        "RSRP, predicted places, and its earlier stays.",
        "file": MODEL_FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "opset": OPSET,
        "inputs": [
            {
                "name": "features",
                "dtype": "float32",
                "shape": ["batch", len(FEATURES)],
                "sample_period_ms": round(1000 * SAMPLE_PERIOD_S),
                "order": "oldest_first",
                "slots": [
                    {
                        "index": index,
                        "measurement": name,
                        "label": "user and cell",
                        "unit": unit,
                        "scaling": {"divide_by": scale},
                        "range": [float(rows[:, index].min()), float(rows[:, index].max())],
                    }
                    for index, (name, unit, scale) in enumerate(_UNITS)
                ],
            }
        ],
        "outputs": [
            _output("until", "time until the cell serves the user", UNTIL_SCALE_S, UNTIL_HORIZON_S),
            _output("stay", "time for which it then serves it", STAY_SCALE_S, STAY_HORIZON_S),
        ],
        "latency_budget_ms": LATENCY_BUDGET_MS,
        "training": training,
        "metrics": metrics,
    }
    return Contract.model_validate(document)


def _output(name: str, quantity: str, scale: float, horizon_s: float) -> dict[str, Any]:
    return {
        "name": name,
        "dtype": "float32",
        "shape": ["batch", len(QUANTILES)],
        "quantity": quantity,
        "unit": "s",
        "scaling": {"divide_by": scale},
        "quantiles": list(QUANTILES),
        "horizon_ms": round(1000 * horizon_s),
    }
