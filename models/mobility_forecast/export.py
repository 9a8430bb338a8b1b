"""The contract of the exported network."""

from __future__ import annotations

import hashlib
from typing import Any

from models.contract import Contract
from models.mobility_forecast.shape import (
    HISTORY_STEPS,
    HORIZONS_S,
    POSITION_SCALE_M,
    RADIUS_QUANTILES,
    SAMPLE_PERIOD_S,
)
from models.onnx_export import MODEL_FILE, OPSET

VERSION = "1.0.0"
LATENCY_BUDGET_MS = 1.0


def contract_of(content: bytes, training: dict[str, Any], metrics: dict[str, Any]) -> Contract:
    """Raises pydantic's ValidationError if this file is out of step."""
    scaling = {"divide_by": POSITION_SCALE_M}
    horizons_ms = [round(1000 * h) for h in HORIZONS_S]
    directions = enumerate(("east", "north"))
    document = {
        "name": "mobility_forecast",
        "version": VERSION,
        "description": "Where a user will be in 1, 2, 5 and 10 s, from its positions over "
        "the last 6 s, with the radius that holds it.",
        "file": MODEL_FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "opset": OPSET,
        "inputs": [
            {
                "name": "positions",
                "dtype": "float32",
                "shape": ["batch", HISTORY_STEPS, 2],
                "sample_period_ms": round(1000 * SAMPLE_PERIOD_S),
                "order": "oldest_first",
                "slots": [
                    {
                        "index": index,
                        "measurement": f"user.location_m-{direction}-of-newest",
                        "label": "user",
                        "unit": "m",
                        "scaling": scaling,
                        "range": [-3.0, 3.0],
                    }
                    for index, direction in directions
                ],
            }
        ],
        "outputs": [
            {
                "name": "displacement",
                "dtype": "float32",
                "shape": ["batch", len(HORIZONS_S), 2],
                "quantity": "way east and north from the newest position",
                "unit": "m",
                "scaling": scaling,
                "quantiles": [0.5],
                "horizon_ms": horizons_ms[-1],
                "horizons_ms": horizons_ms,
            },
            {
                "name": "radius",
                "dtype": "float32",
                "shape": ["batch", len(HORIZONS_S), len(RADIUS_QUANTILES)],
                "quantity": "distance between the forecast and the true position",
                "unit": "m",
                "scaling": scaling,
                "quantiles": list(RADIUS_QUANTILES),
                "horizon_ms": horizons_ms[-1],
                "horizons_ms": horizons_ms,
            },
        ],
        "latency_budget_ms": LATENCY_BUDGET_MS,
        "training": training,
        "metrics": metrics,
    }
    return Contract.model_validate(document)
