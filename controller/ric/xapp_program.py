"""What a deployment starts: the folder that it names, its descriptor, and the code in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.ric.errors import Malformed
from controller.xapp_descriptor import (
    DESCRIPTOR_FILE,
    Descriptor,
    DescriptorError,
    HolonSection,
    entry_command,
    load_descriptor,
    verify_models,
)


@dataclass(frozen=True)
class Deployment:
    """`where`: a folder, or the name of a shipped xApp; `name` None: the descriptor's."""

    where: str
    placement: str = "centre"
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True)
class Program:
    """A folder that can be started, its models verified. `arguments` go to the interpreter."""

    folder: Path
    descriptor: Descriptor
    holon: HolonSection
    arguments: Sequence[str]
    code_digest: str
    """Of the descriptor, which names the models' hashes, and of every Python file."""


def xapp_folder(where: str, project: Path) -> Path:
    """A path as it is; a bare name among the shipped xApps (`-` is `_` in folder names)."""
    path = Path(where)
    if path.is_absolute() or "/" in where or (path / DESCRIPTOR_FILE).is_file():
        return path.resolve()
    return project / "xapps" / where.replace("-", "_")


def read_program(folder: Path, project: Path) -> Program:
    """Raises `Malformed` with what is wrong in the folder."""
    try:
        descriptor = load_descriptor(folder)
        arguments = entry_command(descriptor, folder)
        verify_models(descriptor, folder, project)
    except DescriptorError as error:
        raise Malformed(str(error), f"see {DESCRIPTOR_FILE} in {folder}") from None
    if descriptor.holon is None:  # entry_command has refused it already
        raise Malformed(f"xApp {descriptor.xapp_name} has no section `holon`")
    return Program(folder, descriptor, descriptor.holon, arguments, code_digest(folder))


def code_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in (folder / DESCRIPTOR_FILE, *sorted(folder.rglob("*.py"))):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Malformed(f"{path}: {error.strerror}") from None
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
