"""`--set key=value`: overrides on a scenario's plain data, before it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import yaml

from topologies.scenario.document import Document
from topologies.scenario.references import Path

NAMING_KEYS = ("name", "service", "access_point")
"""What a list's elements may be called by in an override, first that fits."""


class BadOverride(Exception):
    """The message names the override and what would be right."""


def apply(document: Document, overrides: Sequence[str]) -> list[str]:
    """Change `document` in place; returns one line for each override that cannot be applied."""
    problems = []
    for text in overrides:
        try:
            _apply_one(document, text)
        except BadOverride as error:
            problems.append(f"--set {text}: {error}")
    return problems


def _apply_one(document: Document, text: str) -> None:
    key, separator, value_text = text.partition("=")
    tokens = key.strip().split(".")
    if not separator or not all(tokens):
        raise BadOverride("write key=value, with dots in the key, e.g. background.rate_ratio=1.2")
    try:
        value = yaml.safe_load(value_text)
    except yaml.YAMLError as error:
        raise BadOverride(f"the value is not YAML: {' '.join(str(error).split())}") from error
    place: Any = document.content
    path: Path = ()
    for token in tokens[:-1]:
        step = _step(place, token, path)
        if isinstance(place, dict) and place.get(step) is None:
            place[step] = {}
        place, path = place[step], (*path, step)
    last = _step(place, tokens[-1], path)
    place[last] = value
    document.overridden[(*path, last)] = text


def _step(place: Any, token: str, path: Path) -> str | int:
    """The key or index that `token` means in `place`; a mapping may get new keys."""
    where = ".".join(map(str, path)) or "the scenario"
    if isinstance(place, dict):
        return token
    if not isinstance(place, list):
        raise BadOverride(f"{where} is a single value, it has no {token!r}")
    if token.lstrip("-").isdigit():
        if 0 <= int(token) < len(place):
            return int(token)
        raise BadOverride(f"{where} has no element {token}; its indices are 0-{len(place) - 1}")
    names = [name_of(element) for element in place]
    if names.count(token) == 1:
        return names.index(token)
    if token in names:
        raise BadOverride(f"{where} has several elements {token!r}; use an index")
    known = [n for n in names if n]
    close = get_close_matches(token, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise BadOverride(f"{where} has no element {token!r}; {hint}known: {', '.join(known)}")


def name_of(element: Any) -> str | None:
    """What a list's element is called in paths, if it has a name."""
    if isinstance(element, dict):
        for key in NAMING_KEYS:
            if isinstance(element.get(key), str):
                return str(element[key])
    return element if isinstance(element, str) else None
