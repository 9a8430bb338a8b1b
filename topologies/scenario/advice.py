"""From a pydantic error to what was wrong and what would be right, in one line.

Knows the schema (which keys exist where) and units (that `delay: 10ms` wants to
be `delay_ms: 10`); knows nothing about files and lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from topologies.scenario.references import Path

UNIT_WORDS = {
    "ms": "milliseconds",
    "s": "seconds",
    "mbps": "Mbit/s",
    "kbps": "kbit/s",
    "m": "metres",
    "mps": "metres per second",
    "bytes": "bytes",
    "packets": "packets",
    "pps": "packets/s",
    "dbm": "dBm",
    "db": "dB",
    "ghz": "GHz",
    "ratio": "a ratio of 1",
}
SCALES = {
    "time": {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0},
    "rate": {
        "bit/s": 1.0,
        "bps": 1.0,
        "bit": 1.0,
        "kbit": 1e3,
        "kbps": 1e3,
        "kbit/s": 1e3,
        "mbit": 1e6,
        "mbps": 1e6,
        "mbit/s": 1e6,
        "gbit": 1e9,
        "gbps": 1e9,
        "gbit/s": 1e9,
    },
    "length": {"m": 1.0, "km": 1e3},
    "frequency": {"mhz": 1e6, "ghz": 1e9},
    "power": {"dbm": 1.0},
    "share": {"ratio": 1.0, "%": 1e-2, "pct": 1e-2, "percent": 1e-2},
}
QUANTITY = re.compile(r"^\s*([-+]?\d*\.?\d+(?:e[-+]?\d+)?)\s*([a-zA-Z%][a-zA-Z/%]*)\s*$")


def unit_of(key: str) -> str | None:
    """The unit in a key's name: `delay_ms` -> `ms`."""
    stem, _, suffix = key.rpartition("_")
    return suffix if stem and suffix in UNIT_WORDS else None


def converted(value: Any, key: str, given_unit: str | None = None) -> float | None:
    """`"10 ms"` (or 10 with `given_unit` ms) in the unit of `key`; None if it makes no sense."""
    wanted = unit_of(key)
    if isinstance(value, str):
        match = QUANTITY.match(value)
        if not match:
            return None
        number, given_unit = float(match[1]), match[2].lower()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        return None
    for scale in SCALES.values():
        if given_unit in scale and wanted in scale:
            return float(f"{number * scale[given_unit] / scale[wanted]:.12g}")
    return number if given_unit == wanted else None


def advice(error: ErrorDetails, models: list[type[BaseModel]], key: str) -> str:
    """One line for `error` at `key` of an element that is one of `models`."""
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(key, value, known_keys(models))
    if kind == "missing":
        return f"missing; write {example(key)}"
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        choices = re.findall(r"'([^']*)'", expected)
        if kind == "union_tag_invalid" and isinstance(value, dict):
            value = value.get(str(context.get("discriminator", "")).strip("'"))
        return f"{value!r} is none of the choices; {_choose(str(value), choices)}"
    if kind == "union_tag_not_found":
        tag = str(context.get("discriminator", "")).strip("'")
        return f"missing `{tag}`; it says which kind this is"
    number = converted(value, key) if isinstance(value, str) else None
    if number is not None:
        word = UNIT_WORDS[str(unit_of(key))]
        return f"{value!r} carries a unit; the key has it already ({word}): write {key}: {number:g}"
    return f"{_shown(value)} {_lower_first(error['msg'])}{_unit_note(key)}"


def unknown_key(key: str, value: Any, known: list[str]) -> str:
    """What to write instead of `key`, with its value converted if the unit was the mistake."""
    stem = key.rpartition("_")[0] if "_" in key else key
    given_unit = key.rpartition("_")[2] if "_" in key else None
    for right in known:
        if unit_of(right) and right.rpartition("_")[0] in (key, stem):
            number = converted(value, right, given_unit)
            shown = f"{number:g}" if number is not None else _bare(value)
            word = UNIT_WORDS[str(unit_of(right))]
            return f"unknown key; the unit belongs to the key: write {right}: {shown} ({word})"
    close = get_close_matches(key, known, n=1)
    if not close:
        close = [k for k in known if k.split("_")[-1] == key or unit_of(k) and stem in k][:1]
    if close:
        return f"unknown key; did you mean {close[0]!r}?"
    return f"unknown key; known here: {', '.join(known)}"


def _bare(value: Any) -> str:
    return f"{value}" if isinstance(value, (int, float)) else "..."


def _choose(value: str, choices: list[str]) -> str:
    close = get_close_matches(value, choices, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose one of {', '.join(choices)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _lower_first(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return "is wrong: " + message[:1].lower() + message[1:]


def _unit_note(key: str) -> str:
    unit = unit_of(key)
    return f" (in {UNIT_WORDS[unit]})" if unit else ""


def example(key: str) -> str:
    return f"`{key}: ...`{_unit_note(key)}"


def known_keys(models: Iterable[type[BaseModel]]) -> list[str]:
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def models_at(root: type[BaseModel], location: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """The schema's models at an error's location, discriminator tags included."""
    models = [root]
    for token in location:
        if isinstance(token, int):
            continue
        owners = [m for m in models if token in m.model_fields]
        if owners:
            models = [i for o in owners for i in _models_in(o.model_fields[token].annotation)]
        else:
            models = [m for m in models if _has_tag(m, token)] or models
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(
        get_origin(f.annotation) is Literal and tag in get_args(f.annotation)
        for f in model.model_fields.values()
    )


def place_of(document: Any, location: tuple[str | int, ...]) -> Path:
    """An error's location without discriminator tags: a path in the document."""
    path: list[str | int] = []
    value = document
    for position, token in enumerate(location):
        last = position == len(location) - 1
        indices = range(len(value)) if isinstance(value, list) else ()
        if token in (value if isinstance(value, dict) else indices):
            value = value[token]
        elif not last:
            continue
        path.append(token)
    return tuple(path)
