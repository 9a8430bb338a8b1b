"""Placing a network function: what is refused before anything is touched, and what a
rehearsal shows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.contracts.run_folder import RunFolder
from controller.errors import EnforcementError, UnknownTargetError
from controller.functions import FUNCTION_BYTES, Functions, functions_path
from controller.network_state import ChainedFunction, initial_state
from controller.network_view import network_of
from controller.switches import Switches
from tests.planned_network import planned_inventory
from topologies.scenario.loader import SCENARIOS_FOLDER

DOCUMENT = yaml.safe_load((SCENARIOS_FOLDER / "migration.yaml").read_text())
MEMORY_BYTES = 1_000_000


def small_server(server: dict[str, Any]) -> dict[str, Any]:
    return {**server, "memory_bytes": MEMORY_BYTES} if server["name"] == "compute1" else server


INVENTORY = planned_inventory(
    {**DOCUMENT, "servers": [small_server(s) for s in DOCUMENT["servers"]]}
)


async def settled() -> None:
    """No vswitchd to wait for."""


def functions(folder: Path, held_bytes: int = 0) -> Functions:
    """Over switches that nobody may reach: whatever is sent to them would fail."""
    state = initial_state(INVENTORY).chained(ChainedFunction("wall", "assist1", "compute2"))
    switches = Switches(network_of(INVENTORY), state, None)  # type: ignore[arg-type]
    return Functions(RunFolder(folder), switches, settled, lambda host: held_bytes)


def place(made: Functions, **changes: Any) -> Any:
    asked = {"name": "gate", "service": "archive", "host": "compute1", "deny": [], **changes}
    return asyncio.run(made.place(**asked, dry_run=True))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"service": "nothing"}, UnknownTargetError, "unknown service 'nothing'; known: assist1"),
        ({"host": "car1"}, UnknownTargetError, "unknown server 'car1'; known: edge1"),
        ({"host": "edge1"}, EnforcementError, "a function needs a server without"),
        ({"deny": ["me"]}, UnknownTargetError, "'me' has no session"),
        ({"service": "assist1"}, EnforcementError, "has function wall already"),
        ({"name": "wall"}, EnforcementError, "is for assist1; remove it first"),
    ],
)
def test_refused_with_the_reason_and_nothing_changed(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    made = functions(tmp_path)
    before = made._switches.state
    with pytest.raises(error, match=words):
        place(made, **changes)
    assert made._switches.state is before
    assert not functions_path(RunFolder(tmp_path)).exists()


def test_a_full_server_is_refused_with_its_numbers(tmp_path: Path) -> None:
    words = f"compute1 is full: a function needs {FUNCTION_BYTES} bytes, {FUNCTION_BYTES - 1} of"
    with pytest.raises(EnforcementError, match=words):
        place(functions(tmp_path, MEMORY_BYTES - FUNCTION_BYTES + 1))
    assert place(functions(tmp_path, MEMORY_BYTES - FUNCTION_BYTES)).diff["flows"]


def test_a_rehearsal_shows_every_switch_on_the_way(tmp_path: Path) -> None:
    made = functions(tmp_path)
    assert set(place(made).diff["flows"]) == {"core"}
    assert set(place(made, service="assist2", host="compute2").diff["flows"]) == {
        "core", "west", "east",
    }  # fmt: skip
    removed = asyncio.run(made.remove("wall", dry_run=True))
    assert set(removed.diff["flows"]) == {"west", "core"}
