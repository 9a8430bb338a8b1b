"""YAML files of slices: the keys of a scenario's slice, with members, services, reservations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.contracts.live_slices import SliceSpec
from topologies.cli.errors import CommandRefused
from topologies.scenario.document import Malformed, parse


def specs_in(file: Path) -> list[dict[str, Any]]:
    """One slice, or those under `slices:`; each problem with its line, before anything is asked."""
    try:
        document, problems = parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandRefused(f"{file}: cannot be read: {error}") from error
    except Malformed as error:
        raise CommandRefused(f"{file}:{error.line}: {error.message}") from error
    if problems:
        line = document.line_of(problems[0].path)
        raise CommandRefused(f"{file}:{line}: {problems[0].message}")
    content = document.content
    several = isinstance(content, dict) and isinstance(content.get("slices"), list)
    items = content["slices"] if several else [content]
    found = []
    for index, item in enumerate(items):
        try:
            spec = SliceSpec.model_validate(item)
        except ValidationError as error:
            fault = error.errors()[0]
            place = (*(("slices", index) if several else ()), *fault["loc"])
            where = ".".join(map(str, place)) or "slice"
            line = document.line_of(place)
            raise CommandRefused(f"{file}:{line}: {where}: {fault['msg']}") from None
        found.append(spec.model_dump(mode="json", exclude_unset=True))
    return found
