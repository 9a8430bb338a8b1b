"""What the testbed tells an xApp through its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holon_xapp.errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """`config`: the descriptor's defaults with the deployment's values over them."""

    url: str
    token: str = field(repr=False)
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """HOLON_URL, HOLON_TOKEN, HOLON_XAPP_NAME, and HOLON_XAPP_CONFIG (JSON, or a file's path).

        Raises `SettingsError`.
        """
        wanted = ("HOLON_URL", "HOLON_TOKEN", "HOLON_XAPP_NAME")
        missing = [name for name in wanted if not environment.get(name)]
        if missing:
            raise SettingsError(
                f"{', '.join(missing)} not set: xApps are started by `testbed.sh xapp deploy`"
            )
        url, token, name = (environment[variable] for variable in wanted)
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"HOLON_URL is {url!r}; an http:// address was expected")
        return cls(url.rstrip("/"), token, name, _config(environment.get("HOLON_XAPP_CONFIG", "")))


def _config(text: str) -> dict[str, Any]:
    where = "HOLON_XAPP_CONFIG"
    if text and not text.lstrip().startswith("{"):
        where = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError(f"HOLON_XAPP_CONFIG names {where!r}: {error}") from None
    try:
        config = json.loads(text or "{}")
    except ValueError as error:
        raise SettingsError(f"{where} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise SettingsError(f"{where}: an object was expected, not {type(config).__name__}")
    return config
