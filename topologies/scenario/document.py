"""A scenario file as plain data that remembers where each value stands.

YAML in, data plus line numbers out; what the data mean is the schema's matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from topologies.scenario.references import Path, Problem

MAX_VALUES = 50_000
"""Anchors can make a small file explode; no sane scenario comes near this."""


class Malformed(Exception):
    """Not YAML, or YAML that cannot be a scenario; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        self.message = message
        super().__init__(message)


@dataclass
class Document:
    """`lines` has the line of every value's key (of a list's elements: their own)."""

    content: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    overridden: dict[Path, str] = field(default_factory=dict)
    """Paths that an override set, with the override's text."""

    def line_of(self, path: Path) -> int:
        """Line of the value at `path`, or of the nearest value around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def override_of(self, path: Path) -> str | None:
        """The override that set the value at `path`, one around it, or made what is there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return self.overridden[path[:length]]
        if path in self.lines:
            return None
        inside = (text for p, text in self.overridden.items() if p[: len(path)] == path)
        return next(inside, None)

    def value_at(self, path: Path) -> Any:
        value: Any = self.content
        for token in path:
            value = value[token]
        return value


def parse(text: str) -> tuple[Document, list[Problem]]:
    """The document of `text`, and what is wrong with it already (duplicate keys).

    Raises `Malformed` when there is nothing to check any further.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise Malformed(1, "a scenario is a mapping of keys to values, starting with `name:`")
        lines: dict[Path, int] = {}
        problems: list[Problem] = []
        for path, line, problem in _walk(root):
            if len(lines) > MAX_VALUES:
                raise Malformed(line, f"more than {MAX_VALUES} values; too many aliases?")
            lines[path] = line
            if problem:
                problems.append(Problem(path, problem))
        content = _unshared(loader.construct_document(root))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Malformed(mark.line + 1 if mark else 1, f"not YAML: {_reason(error)}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise Malformed(1, f"not YAML: {error}") from error
    except RecursionError as error:
        raise Malformed(1, "nested too deeply, or an alias contains itself") from error
    return Document(content, lines), problems


def _reason(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part).replace("\n", " ")


def _walk(node: yaml.Node, path: Path = ()) -> Iterator[tuple[Path, int, str | None]]:
    """(path, line, what is wrong) of every value below `node`."""
    if isinstance(node, yaml.MappingNode):
        yield from _walk_mapping(node, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, element in enumerate(node.value):
            yield (*path, index), element.start_mark.line + 1, None
            yield from _walk(element, (*path, index))


def _walk_mapping(node: yaml.MappingNode, path: Path) -> Iterator[tuple[Path, int, str | None]]:
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        problem = None
        if name in seen and name != "<<":
            problem = f"duplicate key; it stands in line {seen[name]} already"
        elif isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:str":
            problem = "is no text for YAML; put the key in quotes" if name != "<<" else None
        seen[name] = line
        yield (*path, name), line, problem
        yield from _walk(value, (*path, name))


def _unshared(value: Any) -> Any:
    """A copy in which aliases are values of their own, so that an override changes one place."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def not_finite(value: Any, path: Path = ()) -> Iterator[Problem]:
    """Every nan and infinity: both pass as numbers, neither can be built."""
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"{value} is no usable number; write a finite one")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from not_finite(inner, (*path, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from not_finite(inner, (*path, index))
