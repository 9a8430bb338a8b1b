"""Whatever changes the network can be rehearsed: every command and every route, also those
that somebody adds later, either takes a dry run or says here why it needs none."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer

from controller.ric.app import create_app
from topologies.cli.app import app as command_line

WHOLE_TESTBED = "builds or removes a testbed of its own; no network to compare with"
READS = "only looks"
HOST = "works in a host, not on the network"
XAPP = "changes nothing by itself: an xApp decides, and each decision can be rehearsed"
TWINS = "says what twins may cost, not what the network does; configure_twin decisions follow"
FORKS = "forks are a copy of the network; `apply` is what changes it"

COMMANDS_WITHOUT: dict[str, str] = {
    **dict.fromkeys(("demo", "run", "up", "down", "clean", "setup"), WHOLE_TESTBED),
    **dict.fromkeys(("doctor", "status", "env", "measure", "report", "compare"), READS),
    **dict.fromkeys(("exec", "shell", "capture"), HOST),
    **dict.fromkeys(("bench", "test", "train"), "brings up testbeds of its own, or none"),
    **dict.fromkeys(("xapp deploy", "xapp undeploy", "xapp upgrade", "xapp rollback"), XAPP),
    **dict.fromkeys(("policy define", "policy set", "policy delete", "policy undefine"), XAPP),
    "policy types": READS,
    **dict.fromkeys(("whatif fork", "whatif predict", "whatif compare", "whatif delete"), FORKS),
    "slice admit": "is a dry run",
    "xapp new": "writes a folder",
    "xapp validate": READS,
    "xapp logs": READS,
    **dict.fromkeys(("twin budget set", "twin budget clear", "twin represent"), TWINS),
    **dict.fromkeys(("twin model", "twin history", "twin export"), READS),
    "replay": "plays a recording; no network is there",
}
READING_VERBS = ("list", "show")
OTHER_GROUPS = ("models", "vm")
"""Files of the repository, and a virtual machine with a testbed of its own."""

POLICY_PATHS = (
    "/A1-P/v2/policytypes/{policy_type_id}",
    "/A1-P/v2/policytypes/{policy_type_id}/policies/{policy_instance_id}",
)
ROUTES_WITHOUT: dict[tuple[str, str], str] = {
    ("POST", "/api/v1/tokens"): "who may read, not the network",
    ("POST", "/api/v1/xapps"): XAPP,
    ("DELETE", "/api/v1/xapps/{name}"): XAPP,
    ("POST", "/api/v1/xapps/{name}/ready"): XAPP,
    ("POST", "/api/v1/xapps/{name}/upgrade"): XAPP,
    ("POST", "/api/v1/xapps/{name}/rollback"): XAPP,
    **dict.fromkeys(((verb, path) for verb in ("PUT", "DELETE") for path in POLICY_PATHS), XAPP),
    ("POST", "/api/v1/policy-replies"): XAPP,
    ("PUT", "/api/v1/twin-budget"): TWINS,
    ("DELETE", "/api/v1/twin-budget"): TWINS,
    ("PUT", "/api/v1/twin-representatives"): TWINS,
    ("DELETE", "/api/v1/twin-representatives"): TWINS,
    ("POST", "/api/v1/sdl/{operation}"): "an xApp's own shared data, not the network",
    ("POST", "/api/v1/whatif"): FORKS,
    ("POST", "/api/v1/whatif/compare"): FORKS,
    ("POST", "/api/v1/whatif/{fork_id}/predict"): FORKS,
    ("DELETE", "/api/v1/whatif/{fork_id}"): FORKS,
}
KNOWN_CHANGES = {
    *(f"slice {verb}" for verb in ("create", "update", "delete", "cover", "uncover", "reserve")),
    *(f"vnf {verb}" for verb in ("place", "move", "remove")),
    *("ue handover", "service migrate", "twin configure", "whatif apply"),
}


def commands() -> dict[str, Any]:
    """Words of a command -> the function behind it."""
    return commands_of(command_line, "")


def commands_of(place: typer.Typer, words: str) -> dict[str, Any]:
    found = {f"{words}{command.name}": command.callback for command in place.registered_commands}
    for group in place.registered_groups:
        assert group.typer_instance is not None
        found |= commands_of(group.typer_instance, f"{words}{group.name} ")
    return found


def may_change(words: str) -> bool:
    group, *_, verb = words.split(" ") if " " in words else (words, "")
    return verb not in READING_VERBS and group not in OTHER_GROUPS


CHANGING = sorted(w for w in commands() if may_change(w) and w not in COMMANDS_WITHOUT)


def test_the_commands_that_change_the_network_are_found() -> None:
    assert set(CHANGING) >= KNOWN_CHANGES
    assert COMMANDS_WITHOUT.keys() <= commands().keys(), "an exception for a command that is gone"


@pytest.mark.parametrize("words", CHANGING)
def test_every_command_that_changes_the_network_has_a_dry_run(words: str) -> None:
    parameters = inspect.signature(commands()[words]).parameters
    assert "dry_run" in parameters, f"{words}: add --dry-run, or say above why it needs none"
    assert parameters["dry_run"].default is False


def described() -> dict[str, Any]:
    """The API as it tells itself; routes are declared without a RIC."""
    return create_app(None).openapi()  # type: ignore[arg-type]


DOCUMENT = described()
ROUTES = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method != "get"
}


def takes_dry_run(operation: dict[str, Any]) -> bool:
    """As a parameter of its own, or in its document."""
    names = {parameter["name"] for parameter in operation.get("parameters", [])}
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    schema = DOCUMENT["components"]["schemas"].get(reference.rpartition("/")[2], {})
    return "dry_run" in names | schema.get("properties", {}).keys()


@pytest.mark.parametrize("which", sorted(ROUTES), ids=" ".join)
def test_every_route_that_changes_the_network_has_a_dry_run(which: tuple[str, str]) -> None:
    has = takes_dry_run(ROUTES[which])
    assert has != (which in ROUTES_WITHOUT), f"{which}: a dry run, or a reason above, and one only"


def test_no_exception_outlives_its_route() -> None:
    assert ROUTES_WITHOUT.keys() <= ROUTES.keys()
