"""A shipped model in a local controller: verified by its hash, on one thread that never spins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MODELS_FOLDER = Path(__file__).resolve().parents[2] / "models"

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class OnnxModel:
    """`source` is what predictions carry: name and version."""

    source: str
    session: Any

    def __call__(self, **inputs: Float32Array) -> Sequence[Float32Array]:
        """The outputs, in the contract's order."""
        return [np.asarray(output) for output in self.session.run(None, inputs)]


def load_model(name: str, folder: Path = MODELS_FOLDER) -> OnnxModel:
    """ValueError when the file is not what its contract states, OSError when it is missing."""
    import onnxruntime  # half a second and 40 MB, only where a model is used

    contract = json.loads((folder / name / "model.json").read_bytes())
    path = folder / name / contract["file"]
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != contract["sha256"]:
        raise ValueError(f"{path}: SHA-256 {found}, its contract states {contract['sha256']}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Both keep buffers for every batch size seen, megabytes each, and are no faster here.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return OnnxModel(f"{contract['name']} {contract['version']}", session)
