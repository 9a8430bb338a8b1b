"""xApp descriptors (`config-file.json`) in the O-RAN SC shape, and what we add to it.

Descriptors of existing xApps validate as they are; keys that this testbed has no
use for are kept, not refused.  Ours live under the key `holon` and are strict.
A descriptor without it is valid but names nothing that this testbed can start.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from controller.contracts.slices import Strict

DESCRIPTOR_FILE = "config-file.json"
SCOPES = (
    *("read", "reserve", "schedule", "handover", "admit", "cover"),
    *("migrate", "migrate_twin", "offload", "adapt_link", "configure_twin", "store"),
)
"""`read`: twins and stream; `store`: the shared data layer; the others: decisions with that
action."""

XappName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]


class DescriptorError(Exception):
    """The descriptor, or a file it names, is not what it has to be; one line says why."""


class Open(BaseModel):
    """Foreign documents: unknown keys are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Image(Open):
    registry: str = ""
    name: str
    tag: str = "latest"


class Container(Open):
    name: str
    image: Image
    command: str | list[str] | None = None


class HttpGet(Open):
    path: str
    port: PortNumber | str


class Exec(Open):
    command: list[str]


class Probe(Open):
    """Kubernetes' shape: one of `httpGet` and `exec`."""

    httpGet: HttpGet | None = None
    exec: Exec | None = None
    initialDelaySeconds: Annotated[int, Field(ge=0)] | None = None
    periodSeconds: Annotated[int, Field(ge=0)] | None = None


class MessagingPort(Open):
    name: str
    port: PortNumber
    container: str | None = None
    description: str = ""
    rxMessages: list[str] = []
    txMessages: list[str] = []
    policies: list[int] = []


class Messaging(Open):
    ports: list[MessagingPort] = []


class Rmr(Open):
    """The legacy section; some descriptors have only this one."""

    protPort: str | None = None
    maxSize: int | None = None
    numWorkers: int | None = None
    rxMessages: list[str] = []
    txMessages: list[str] = []
    policies: list[int] = []


class Metric(Open):
    objectName: str
    objectInstance: str
    name: str
    type: str
    description: str = ""


class ModelFile(Strict):
    """`path` from the descriptor's folder, or from the project's when not found there."""

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    contract: str | None = None
    """The model's `model.json`, found the same way."""


class Rehearsal(Strict):
    """Reservations of this xApp are tried on a fork of the twins first (`controller.whatif`).

    Rejected when predicted to be worse than nothing changed; carried out unrehearsed when
    the prediction needs longer than the budget.
    """

    latency_budget_ms: Annotated[float, Field(gt=0, le=1000)] = 60.0
    horizon_s: Annotated[float, Field(ge=1, le=10)] = 2.0


class HolonSection(Strict):
    """What this testbed needs to start the xApp as a process.

    `entry_point`: a Python file beside the descriptor (`xapp.py`) or a module (`package.xapp`).
    """

    entry_point: Annotated[str, Field(min_length=1)]
    models: list[ModelFile] = Field(default_factory=list)
    scopes: list[str] = Field(default_factory=lambda: ["read", "reserve"])
    slices: list[Annotated[str, Field(pattern=r"^\d{1,3}-[0-9a-f]{6}$")]] | None = None
    """Slices (`sst-sd`) whose twin data it may read; None: all."""
    latency_budget_ms: Annotated[float, Field(gt=0)] | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    rehearse: Rehearsal | None = None
    """Defaults; the deployment's configuration goes over them."""

    @model_validator(mode="after")
    def _scopes_exist(self) -> HolonSection:
        for scope in self.scopes:
            if scope not in SCOPES:
                raise ValueError(f"unknown scope {scope!r}; known: {', '.join(SCOPES)}")
        return self


class Descriptor(Open):
    """O-RAN SC `config-file.json`; `xapp_name` and `name` are both in use."""

    xapp_name: XappName = Field(validation_alias=AliasChoices("xapp_name", "name"))
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+([.+-][0-9A-Za-z.+-]+)?$")]
    containers: Annotated[list[Container], Field(min_length=1)]
    livenessProbe: Probe | None = None
    readinessProbe: Probe | None = None
    messaging: Messaging | None = None
    rmr: Rmr | None = None
    controls: dict[str, Any] = {}
    metrics: list[Metric] = []
    holon: HolonSection | None = None

    @property
    def policies(self) -> frozenset[int]:
        """Types of A1 policies that it handles."""
        ports = self.messaging.ports if self.messaging else []
        of_ports = (p for port in ports for p in port.policies)
        return frozenset((*of_ports, *(self.rmr.policies if self.rmr else ())))

    @model_validator(mode="after")
    def _ports_belong_to_containers(self) -> Descriptor:
        names = {container.name for container in self.containers}
        for port in self.messaging.ports if self.messaging else []:
            if port.container is not None and port.container not in names:
                raise ValueError(
                    f"messaging port {port.name!r} names container {port.container!r}; "
                    f"containers: {', '.join(sorted(names))}"
                )
        return self


@dataclass(frozen=True)
class VerifiedModel:
    """A model file whose content has the hash that the descriptor states."""

    path: Path
    sha256: str
    contract: Path | None


def parse_descriptor(text: str | bytes, where: str) -> Descriptor:
    """Raises `DescriptorError` with the first fault, its place and what would be right."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DescriptorError(f"{where} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise DescriptorError(f"{where}: an object was expected, not {type(document).__name__}")
    try:
        return Descriptor.model_validate(document)
    except ValidationError as error:
        raise DescriptorError(f"{where}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """'holon.models.0.sha256: String should match ...' and how many more there are."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    path = ".".join(str(part) for part in faults[0]["loc"]) or "document"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{path}: {faults[0]['msg']}{more}"


def load_descriptor(folder: Path) -> Descriptor:
    """The descriptor of an xApp's folder; raises `DescriptorError`."""
    path = folder / DESCRIPTOR_FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DescriptorError(f"no xApp descriptor at {path}: {error.strerror}") from None
    return parse_descriptor(text, str(path))


def entry_command(descriptor: Descriptor, folder: Path) -> list[str]:
    """Arguments for the Python interpreter that start the xApp; raises `DescriptorError`."""
    if descriptor.holon is None:
        raise DescriptorError(
            f"xApp {descriptor.xapp_name} has no holon.entry_point: it is a container image, and "
            "this testbed starts Python processes"
        )
    entry_point = descriptor.holon.entry_point
    if not entry_point.endswith(".py"):
        if not all(part.isidentifier() for part in entry_point.split(".")):
            raise DescriptorError(
                f"xApp {descriptor.xapp_name}: entry_point {entry_point!r} is neither a .py file "
                "nor a module name"
            )
        return ["-m", entry_point]
    script = (folder / entry_point).resolve()
    if not script.is_relative_to(folder.resolve()):
        raise DescriptorError(f"xApp {descriptor.xapp_name}: {entry_point} lies outside its folder")
    if not script.is_file():
        raise DescriptorError(f"xApp {descriptor.xapp_name}: its entry point {script} is missing")
    return [str(script)]


def verify_models(descriptor: Descriptor, folder: Path, project: Path) -> list[VerifiedModel]:
    """Reads and hashes every model file; raises `DescriptorError` at the first that differs."""
    models = descriptor.holon.models if descriptor.holon else []
    return [_verify_model(descriptor.xapp_name, model, folder, project) for model in models]


def _verify_model(name: str, model: ModelFile, folder: Path, project: Path) -> VerifiedModel:
    path = _find(name, model.path, folder, project)
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != model.sha256.lower():
        raise DescriptorError(
            f"xApp {name}: model {path} ({len(content)} bytes) has SHA-256 {actual}, "
            f"its descriptor states {model.sha256.lower()}"
        )
    contract = _find(name, model.contract, folder, project) if model.contract else None
    return VerifiedModel(path, actual, contract)


def _find(name: str, relative: str, folder: Path, project: Path) -> Path:
    for base in (folder, project):
        path = (base / relative).resolve()
        if path.is_file():
            return path
    raise DescriptorError(f"xApp {name}: {relative} is neither in {folder} nor in {project}")
