"""The contract of a model: `model.json` beside `model.onnx`, and whether the file keeps it.

Every input slot is bound to a measurement by name, label and unit, so that a model
cannot be fed something else by accident.  `python -m models.contract` verifies all.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import onnxruntime
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.onnx_file import NotOnnx, opset_of

MODELS_FOLDER = Path(__file__).resolve().parent
CONTRACT_FILE = "model.json"
SIZE_MAX_BYTES = 16 * 1024 * 1024
OPSET_MIN = 17
Dimension = int | str
"""A number, or the name of a free dimension."""


class ContractError(Exception):
    """A model that does not keep its contract, or a contract that is none; one line."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scaling(Strict):
    """Value in the tensor = measured value / `divide_by` (a number or an attribute's name)."""

    divide_by: float | str


class Slot(Strict):
    """One feature of an input's last dimension."""

    index: Annotated[int, Field(ge=0)]
    measurement: str
    """TS 28.552 name, with a suffix where the quantity is ours."""
    label: str
    """What the measurement is broken down by."""
    unit: str
    scaling: Scaling
    range: tuple[float, float]
    """Of scaled values seen in training."""


class Input(Strict):
    name: str
    dtype: Literal["float32"]
    shape: list[Dimension]
    sample_period_ms: Annotated[int, Field(gt=0)]
    order: Literal["oldest_first"]
    slots: Annotated[list[Slot], Field(min_length=1)]

    @model_validator(mode="after")
    def _slots_fill_the_last_dimension(self) -> Input:
        if [slot.index for slot in self.slots] != list(range(len(self.slots))):
            raise ValueError(f"slots of {self.name!r} must be numbered 0, 1, ... in order")
        if self.shape[-1] != len(self.slots):
            raise ValueError(f"{self.name!r} has {len(self.slots)} slots, shape {self.shape}")
        return self


class Output(Strict):
    name: str
    dtype: Literal["float32"]
    shape: list[Dimension]
    quantity: str
    unit: str
    scaling: Scaling
    quantiles: Annotated[list[float], Field(min_length=1)]
    horizon_ms: Annotated[int, Field(gt=0)]
    """How far the output looks ahead; the farthest of `horizons_ms`, where there are several."""
    horizons_ms: list[int] | None = None
    """Of the output's second dimension."""


class Contract(Strict):
    name: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    description: str
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(gt=0, le=SIZE_MAX_BYTES)]
    opset: Annotated[int, Field(ge=OPSET_MIN)]
    inputs: Annotated[list[Input], Field(min_length=1)]
    outputs: Annotated[list[Output], Field(min_length=1)]
    latency_budget_ms: Annotated[float, Field(gt=0)]
    """Of one inference for all slices of a cell, one thread."""
    training: dict[str, Any]
    metrics: dict[str, Any]


def read_contract(folder: Path) -> Contract:
    """Raises `ContractError`."""
    path = folder / CONTRACT_FILE
    try:
        return Contract.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "document"
        raise ContractError(f"{path}: {place}: {fault['msg']}") from None


def verify(folder: Path) -> Contract:
    """The contract of a model whose file keeps it; raises `ContractError` at the first breach."""
    contract = read_contract(folder)
    path = folder / contract.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror}") from None
    _check_content(path, content, contract)
    _check_tensors(path, content, contract)
    return contract


def _check_content(path: Path, content: bytes, contract: Contract) -> None:
    if len(content) > SIZE_MAX_BYTES:
        raise ContractError(f"{path}: {len(content)} bytes, at most {SIZE_MAX_BYTES}")
    actual = hashlib.sha256(content).hexdigest()
    if (actual, len(content)) != (contract.sha256, contract.size_bytes):
        raise ContractError(
            f"{path}: SHA-256 {actual} ({len(content)} bytes), the contract states "
            f"{contract.sha256} ({contract.size_bytes} bytes)"
        )
    try:
        opset = opset_of(content)
    except NotOnnx as error:
        raise ContractError(f"{path}: {error}") from None
    if opset != contract.opset:
        raise ContractError(f"{path}: opset {opset}, the contract states {contract.opset}")


def _check_tensors(path: Path, content: bytes, contract: Contract) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # From bytes, not from the path: a model that keeps weights in another file cannot load.
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ContractError(f"{path}: does not load: {str(error).splitlines()[0]}") from None
    for kind, stated, actual in (
        ("input", contract.inputs, session.get_inputs()),
        ("output", contract.outputs, session.get_outputs()),
    ):
        wanted = [(tensor.name, tensor.shape) for tensor in stated]
        found = [(tensor.name, list(tensor.shape)) for tensor in actual]
        if wanted != found or any(tensor.type != "tensor(float)" for tensor in actual):
            raise ContractError(f"{path}: {kind}s {found}, the contract states {wanted}")


def model_folders(root: Path = MODELS_FOLDER) -> list[Path]:
    """Every folder with a contract."""
    return sorted(path.parent for path in root.glob(f"*/{CONTRACT_FILE}"))


def main(arguments: Sequence[str]) -> int:
    folders = [Path(argument) for argument in arguments] or model_folders()
    status = 0
    for folder in folders:
        try:
            contract = verify(folder)
        except ContractError as error:
            print(error, file=sys.stderr)
            status = 1
        else:
            print(f"{contract.name} {contract.version}: {contract.sha256} opset {contract.opset}")
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
