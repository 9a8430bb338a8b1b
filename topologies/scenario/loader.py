"""Loading a scenario: name or file, overrides, checks, and errors a person can act on.

Every problem of a file is reported at once, one line each:
`file:line: key.path: what is wrong; what would be right`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from topologies.scenario.advice import advice, models_at, place_of
from topologies.scenario.document import Document, Malformed, not_finite, parse
from topologies.scenario.errors import ScenarioError
from topologies.scenario.overrides import apply, name_of
from topologies.scenario.references import Path as KeyPath
from topologies.scenario.references import Problem, broken_references
from topologies.scenario.schema import Scenario

SCENARIOS_FOLDER = Path(__file__).resolve().parent.parent / "scenarios"


def scenario_names() -> list[str]:
    """Names of the scenarios that come with the testbed, sorted."""
    return sorted(path.stem for path in SCENARIOS_FOLDER.glob("*.yaml"))


def load(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, or that of a shipped name, with `key=value` overrides.

    Keys of overrides are dotted paths; a list's element is an index or a name:
    `access_points.sbs1.down_mbps=10`.  Raises `ScenarioError` with every problem found.
    """
    file = find(path_or_name)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError([f"{file}: cannot be read: {error}"]) from error
    try:
        document, problems = parse(text)
    except Malformed as error:
        raise ScenarioError([f"{file}:{error.line}: {error.message}"]) from error
    refused = apply(document, overrides)
    scenario, found = check(document)
    problems = [*problems, *found]
    if problems or refused or scenario is None:
        raise ScenarioError([*refused, *_lines(file, document, problems)])
    return scenario


def find(path_or_name: str | Path) -> Path:
    """The file of a scenario; a text without folder and suffix is a shipped name."""
    text = str(path_or_name)
    if isinstance(path_or_name, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        file = Path(path_or_name)
        if not file.is_file():
            raise ScenarioError([f"{file}: no such scenario file; {_known()}"])
        return file
    if text in scenario_names():
        return SCENARIOS_FOLDER / f"{text}.yaml"
    close = get_close_matches(text, scenario_names(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ScenarioError([f"unknown scenario {text!r}; {hint}{_known()}"])


def _known() -> str:
    return f"known: {', '.join(scenario_names())}; or give the path of a .yaml file"


def check(document: Document) -> tuple[Scenario | None, list[Problem]]:
    """The scenario, if the schema takes the document, and every problem either way."""
    references = [*not_finite(document.content), *broken_references(document.content)]
    try:
        return Scenario.model_validate(document.content), references
    except ValidationError as error:
        own = [
            _problem(document, details)
            for details in error.errors()
            if details["type"] != "invalid_key"
            and (details["loc"] or details["type"] != "value_error")
        ]
        return None, [*own, *references] or [Problem((), str(error))]


def _problem(document: Document, details: ErrorDetails) -> Problem:
    path = place_of(document.content, details["loc"])
    if details["type"] == "union_tag_invalid":
        path = (*path, str(details["ctx"]["discriminator"]).strip("'"))
    keys = [token for token in path if isinstance(token, str)]
    key = keys[-1] if keys else "scenario"
    inside = details["loc"][:-1] if details["type"] == "extra_forbidden" else details["loc"]
    return Problem(path, advice(details, models_at(Scenario, inside), key))


def _lines(file: Path, document: Document, problems: list[Problem]) -> list[str]:
    """One line a problem, in the order of the file; overrides first, by their own text."""
    by_line: list[tuple[int, str]] = []
    for problem in problems:
        where = f"{shown_path(document, problem.path)}: " if problem.path else ""
        override = document.override_of(problem.path)
        line = 0 if override else document.line_of(problem.path)
        prefix = f"--set {override}" if override else f"{file}:{line}"
        by_line.append((line, f"{prefix}: {where}{problem.message}"))
    return list(dict.fromkeys(text for _, text in sorted(by_line, key=lambda item: item[0])))


def shown_path(document: Document, path: KeyPath) -> str:
    """`users.car1.mobility.speed_mps`: the same words an override uses."""
    words = []
    for length, token in enumerate(path, start=1):
        name = None
        if isinstance(token, int):
            siblings = [name_of(e) for e in document.value_at(path[: length - 1])]
            name = siblings[token] if siblings.count(siblings[token]) == 1 else None
        words.append(name or str(token))
    return ".".join(words)
