"""From the trained network to `model.onnx`, its contract, and the descriptors that name it."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from models.contract import CONTRACT_FILE, Contract
from models.demand_forecast.network import DemandForecast
from models.demand_forecast.shape import (
    HISTORY_STEPS,
    HORIZON_STEPS,
    QUANTILES,
    SAMPLE_PERIOD_S,
    USERS_SCALE,
)

OPSET = 18
MODEL_FILE = "model.onnx"
VERSION = "1.0.0"
LATENCY_BUDGET_MS = 1.0


def onnx_bytes(network: DemandForecast) -> bytes:
    """One file without external data, names of source files or anything else of this machine."""
    example = torch.rand(2, HISTORY_STEPS, 2)
    batch = torch.export.Dim("batch", min=1, max=4096)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about torch; nothing about this network
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=["history"],
            output_names=["quantiles"],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return _stripped(program.model_proto)


def _stripped(model: Any) -> bytes:
    """Without the exporter's notes: they hold stack traces with paths, and change the hash."""
    graph = model.graph
    for item in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        del item.metadata_props[:]
        item.doc_string = ""
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


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


def publish(folder: Path, content: bytes, contract: Contract, descriptors: list[Path]) -> None:
    """Writes the model and its contract, and the new hash wherever a descriptor names it."""
    (folder / contract.file).write_bytes(content)
    text = json.dumps(contract.model_dump(mode="json"), indent=2)
    (folder / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")
    named = f"models/{folder.name}/{contract.file}"
    for path in descriptors:
        document = json.loads(path.read_text(encoding="utf-8"))
        for model in document.get("holon", {}).get("models", []):
            if model["path"].endswith(named):
                model["sha256"] = contract.sha256
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
