"""Numbers that an xApp is tuned by, checked: a frozen dataclass's fields, set by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from holon_xapp.errors import SettingsError


@dataclass(frozen=True)
class Tunables:
    """Base; a subclass's fields are ints or floats with a default, finite and 0 or more.

    Narrower ranges: extend `__post_init__` and raise `SettingsError`.
    """

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"{name} is {value}; 0 or more was expected")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Raises `SettingsError` for an unknown name, another type, a value out of range."""
        known: dict[str, int | float] = {f.name: getattr(cls, f.name) for f in fields(cls)}
        for name, value in config.items():
            if name not in known:
                raise SettingsError(f"unknown setting {name!r}; known: {', '.join(sorted(known))}")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or (isinstance(known[name], int) and value % 1 != 0):
                raise SettingsError(
                    f"{name} is {value!r}; a number like {known[name]} was expected"
                )
        return cls(**{name: type(known[name])(value) for name, value in config.items()})
