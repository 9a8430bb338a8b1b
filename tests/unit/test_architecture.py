"""The import arrows of docs/architecture.md, and what keeps a file readable."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("controller", "topologies", "xapps", "models", "benchmarks")
MAX_LINES = 350
VAGUE_NAMES = {"utils", "helpers", "manager", "common", "misc"}

RYU_FILES = {"controller/openflow.py", "controller/ryu_app.py", "controller/ryu_launcher.py"}
MININET_FILES = {"topologies/network.py"}
HEAVY_LIBRARIES = {"torch", "onnxruntime", "pyarrow", "numpy", "fastapi"}
"""Never in the Ryu process: eventlet's single thread must not wait for them."""
TRAINING_LIBRARIES = {"torch", "onnx", "onnxscript", "gymnasium"}
"""Running must not need them."""

EMULATOR = ("controller.contracts", "controller.whatif")
"""What may be used of the controller where networks are emulated, not controlled."""
TWIN_RULES = ("controller.twins.spending", "controller.twins.representatives")
"""Pure rules of twin model control, which benchmarks play offline too."""


def files(room: str) -> list[Path]:
    return sorted((REPOSITORY / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Parsed once: most tests here look at every file."""
    return ast.parse(path.read_text())


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Full names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative imports hide the arrows"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def offences(room: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name_of(path)} imports {module}"
        for path in files(room)
        for module in sorted(imports_of(path))
        if any(within(module, package) for package in forbidden)
        and not any(within(module, package) for package in allowed)
    ]


def test_every_room_has_files() -> None:
    assert all(files(room) for room in ROOMS)


@pytest.mark.parametrize(
    ("room", "forbidden", "allowed"),
    [
        ("controller", ("topologies", "xapps", "models", "benchmarks"), ()),
        ("topologies", ("controller", "xapps", "benchmarks"), ("controller.contracts",)),
        ("xapps", ("controller", "topologies", "models", "benchmarks"), ()),
        ("models", ("controller", "xapps", "benchmarks"), EMULATOR),
        ("benchmarks", ("controller", "xapps"), (*EMULATOR, *TWIN_RULES)),
    ],
)
def test_import_arrows(room: str, forbidden: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    assert offences(room, forbidden, allowed) == []


def test_contracts_import_nothing_else_of_the_controller() -> None:
    assert offences("controller/contracts", ("controller",), ("controller.contracts",)) == []


@pytest.mark.parametrize(("library", "allowed"), [("ryu", RYU_FILES), ("mininet", MININET_FILES)])
def test_only_named_files_import(library: str, allowed: set[str]) -> None:
    importing = {
        name_of(path)
        for room in ROOMS
        for path in files(room)
        if any(within(module, library) for module in imports_of(path))
    }
    assert importing, f"nothing imports {library}: is this test looking at the right files?"
    assert importing <= allowed


def test_ryu_process_loads_nothing_heavy() -> None:
    reached = set(_reachable(REPOSITORY / "controller" / "ryu_app.py"))
    assert len(reached) > 1
    for path in reached:
        top_level = {module.partition(".")[0] for module in imports_of(path)}
        assert not top_level & HEAVY_LIBRARIES, name_of(path)


def _reachable(start: Path) -> Iterator[Path]:
    """The file and every file of the controller that it leads to."""
    seen, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        waiting += [file for module in imports_of(path) if (file := _file_of(module))]


def _file_of(module: str) -> Path | None:
    """The file of `package.module` or of `package.module.name`, if it is one of ours."""
    parts = module.split(".")
    for length in (len(parts), len(parts) - 1):
        path = REPOSITORY.joinpath(*parts[:length]).with_suffix(".py")
        if length and path.is_file():
            return path
    return None


def test_running_needs_no_training_library() -> None:
    for room in ("controller", "topologies", "xapps", "benchmarks"):
        assert offences(room, tuple(TRAINING_LIBRARIES)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_files_are_short_and_named_for_what_they_hold(room: str) -> None:
    for path in files(room):
        lines = path.read_text().count("\n")
        assert lines <= MAX_LINES, f"{name_of(path)} has {lines} lines"
        assert path.stem not in VAGUE_NAMES, name_of(path)
        assert ast.get_docstring(tree_of(path)), f"{name_of(path)}: no docstring"


def test_no_test_sleeps() -> None:
    """`wait_until` is the only place where a test waits for time to pass."""
    sleeping = [
        name_of(path)
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        if any(within(module, "time.sleep") for module in imports_of(path)) or _sleeps(path)
    ]
    assert sleeping == []


def _sleeps(path: Path) -> bool:
    """Does it call `time.sleep`, strings and comments left out?"""
    calls = (node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
    return any(ast.unparse(f) == "time.sleep" for f in calls if isinstance(f, ast.Attribute))
