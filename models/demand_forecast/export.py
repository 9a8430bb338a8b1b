"""The contract of the exported network."""

from __future__ import annotations

import hashlib
from typing import Any

from models.contract import Contract
from models.demand_forecast.shape import (
    HISTORY_STEPS,
    HORIZON_STEPS,
    QUANTILES,
    SAMPLE_PERIOD_S,
    USERS_SCALE,
)
from models.onnx_export import MODEL_FILE, OPSET

VERSION = "1.0.0"
LATENCY_BUDGET_MS = 1.0


def contract_of(content: bytes, training: dict[str, Any], metrics: dict[str, Any]) -> Contract:
    """The model's contract; raises pydantic's ValidationError if this file is out of step."""
    capacity = {"divide_by": "cell.capacity_kbps"}
    document = {
        "name": "demand_forecast",
        "version": VERSION,
        "description": "Quantiles of the maximum demand of one slice in one cell over the "
        "next 2 s, from its demand and users over the last 10 s.",
        "file": MODEL_FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "opset": OPSET,
        "inputs": [
            {
                "name": "history",
                "dtype": "float32",
                "shape": ["batch", HISTORY_STEPS, 2],
                "sample_period_ms": round(1000 * SAMPLE_PERIOD_S),
                "order": "oldest_first",
                "slots": [
                    {
                        "index": 0,
                        "measurement": "DRB.UEThpDl-demand",
                        "label": "S-NSSAI, per cell",
                        "unit": "kbit/s",
                        "scaling": capacity,
                        "range": [0.0, 2.0],
                    },
                    {
                        "index": 1,
                        "measurement": "RRC.ConnMean",
                        "label": "S-NSSAI, per cell",
                        "unit": "users",
                        "scaling": {"divide_by": USERS_SCALE},
                        "range": [0.0, 1.0],
                    },
                ],
            }
        ],
        "outputs": [
            {
                "name": "quantiles",
                "dtype": "float32",
                "shape": ["batch", len(QUANTILES)],
                "quantity": "maximum of DRB.UEThpDl-demand over the horizon",
                "unit": "kbit/s",
                "scaling": capacity,
                "quantiles": list(QUANTILES),
                "horizon_ms": round(1000 * SAMPLE_PERIOD_S * HORIZON_STEPS),
            }
        ],
        "latency_budget_ms": LATENCY_BUDGET_MS,
        "training": training,
        "metrics": metrics,
    }
    return Contract.model_validate(document)
