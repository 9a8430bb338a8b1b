"""Loading an ONNX model with its contract (`model.json`): checked, one thread, warm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from holon_xapp.errors import ModelError

Float32Array = npt.NDArray[np.float32]
CONTRACT_FILE = "model.json"
WARM_UP_BATCHES = (1, 3, 8)


@dataclass(frozen=True)
class Model:
    """`contract` is the document of model.json; see there for slots, units and scaling."""

    folder: Path
    contract: Mapping[str, Any]
    session: Any
    """onnxruntime.InferenceSession"""

    @property
    def quantiles(self) -> tuple[float, ...]:
        return tuple(self.contract["outputs"][0]["quantiles"])

    @property
    def history_steps(self) -> int:
        return int(self.contract["inputs"][0]["shape"][1])

    @property
    def sample_period_ms(self) -> int:
        return int(self.contract["inputs"][0]["sample_period_ms"])

    @property
    def horizon_ms(self) -> int:
        return int(self.contract["outputs"][0]["horizon_ms"])

    def __call__(self, **inputs: Float32Array) -> list[Float32Array]:
        """The outputs in the contract's order; raises `ModelError` for what does not fit it."""
        try:
            outputs: list[Float32Array] = self.session.run(None, inputs)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelError(f"{self.folder}: {_first_line(error)}") from None
        return outputs


def find_model_folder(path: str, near: Path) -> Path:
    """The folder of a model file that a descriptor names.

    Looked for from the xApp's folder, then from each folder above it, then from the
    checkout that this SDK belongs to.  Raises `ModelError`.
    """
    above_sdk = Path(__file__).resolve().parents[3]
    bases = [near.resolve(), *near.resolve().parents, above_sdk]
    for base in bases:
        if (base / path).is_file():
            return (base / path).resolve().parent
    raise ModelError(f"no model at {path}, neither from {bases[0]} and above nor from {above_sdk}")


def load_model(folder: Path | str, sha256: str | None = None) -> Model:
    """The model of a folder; raises `ModelError` unless file, contract and `sha256` agree."""
    folder = Path(folder)
    contract = _read_contract(folder)
    path = folder / contract["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    actual = hashlib.sha256(content).hexdigest()
    for place, stated in ((folder / CONTRACT_FILE, contract["sha256"]), ("descriptor", sha256)):
        if stated is not None and stated.lower() != actual:
            raise ModelError(f"{path} has SHA-256 {actual}, {place} states {stated.lower()}")
    model = Model(folder, contract, _session(path, content))
    _check_names(model)
    _warm_up(model)
    return model


def _read_contract(folder: Path) -> dict[str, Any]:
    path = folder / CONTRACT_FILE
    try:
        contract = json.loads(path.read_bytes())
        if all(key in contract for key in ("file", "sha256", "inputs", "outputs")):
            return dict(contract)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from None
    raise ModelError(f"{path}: needs file, sha256, inputs and outputs")


def _session(path: Path, content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError("models need onnxruntime: pip install 'holon-xapp[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A spinning idle thread takes processor time from the emulated network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{path} does not load: {_first_line(error)}") from None


def _check_names(model: Model) -> None:
    for kind, tensors in (
        ("inputs", model.session.get_inputs()),
        ("outputs", model.session.get_outputs()),
    ):
        stated = [(t["name"], t["shape"]) for t in model.contract[kind]]
        found = [(t.name, list(t.shape)) for t in tensors]
        if stated != found:
            raise ModelError(f"{model.folder}: {kind} {found}, the contract states {stated}")


def _warm_up(model: Model) -> None:
    """First runs are slow (allocation, kernel choice); they must not be the first decision's."""
    for batch in WARM_UP_BATCHES:
        inputs = {
            tensor["name"]: np.zeros(
                [size if isinstance(size, int) else batch for size in tensor["shape"]],
                np.float32,
            )
            for tensor in model.contract["inputs"]
        }
        for name, output in zip(model.contract["outputs"], model(**inputs), strict=True):
            if not np.isfinite(output).all():
                raise ModelError(f"{model.folder}: {name['name']} is not finite for zeros")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
