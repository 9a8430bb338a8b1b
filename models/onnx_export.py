"""From a trained network to an ONNX file, and into every descriptor that names it. Needs torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from models.contract import CONTRACT_FILE, Contract

OPSET = 18
MODEL_FILE = "model.onnx"
BATCH_MAX = 4096


def onnx_bytes(
    network: torch.nn.Module, example: torch.Tensor, input_name: str, outputs: Sequence[str]
) -> bytes:
    """One file without external data, names of source files or anything else of this machine.

    `example` [2, ...]: its first dimension becomes the free one, `batch`.
    """
    batch = torch.export.Dim("batch", min=1, max=BATCH_MAX)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about torch; nothing about the network
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=[input_name],
            output_names=list(outputs),
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


def publish(folder: Path, content: bytes, contract: Contract, descriptors: list[Path]) -> None:
    """Writes the model and its contract, and the new hash wherever a descriptor names it."""
    (folder / contract.file).write_bytes(content)
    text = json.dumps(contract.model_dump(mode="json", exclude_none=True), indent=2)
    (folder / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")
    named = f"models/{folder.name}/{contract.file}"
    for path in descriptors:
        document = json.loads(path.read_text(encoding="utf-8"))
        for model in document.get("holon", {}).get("models", []):
            if model["path"].endswith(named):
                model["sha256"] = contract.sha256
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
