"""Settings of xApps: what the SDK takes from `config`, and what it refuses by name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from holon_xapp import SettingsError, Tunables


@dataclass(frozen=True)
class Pace(Tunables):
    pause_s: float = 2.0
    steps: int = 3


def test_settings_are_taken_by_name_and_keep_their_types() -> None:
    found = Pace.from_config({"pause_s": 1, "steps": 4.0})
    assert found == Pace(1.0, 4)
    assert isinstance(found.pause_s, float) and isinstance(found.steps, int)
    assert Pace.from_config({}) == Pace()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pause": 1}, "unknown setting 'pause'; known: pause_s, steps"),
        ({"pause_s": "1"}, "pause_s is '1'; a number like 2.0"),
        ({"pause_s": True}, "pause_s is True"),
        ({"pause_s": -1}, "pause_s is -1.0; 0 or more"),
        ({"pause_s": float("inf")}, "pause_s is inf"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"steps": float("nan")}, "steps is nan"),
    ],
)
def test_a_wrong_setting_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Pace.from_config(config)
