"""tests/faults/README.md names tests that exist, and every fault of the table has its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TESTS
from tests.faults.faults import FAULTS

README = TESTS / "faults" / "README.md"
MUST_HAVE = {*range(1, 20), 27}
_ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]*) \|$", re.M)


def rows() -> dict[int, list[str]]:
    """Row -> what is in backquotes in its last column."""
    return {
        int(n): re.findall(r"`([^`]+)`", tests) for n, tests in _ROW.findall(README.read_text())
    }


ROWS = rows()


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_data_plane_is_there() -> None:
    assert ROWS.keys() >= MUST_HAVE
    assert all(ROWS.values())


@pytest.mark.parametrize("row", list(ROWS))
def test_what_a_row_names_exists(row: int) -> None:
    for reference in ROWS[row]:
        if reference == "FAULTS":
            assert any(fault.name.startswith(f"{row} ") for fault in FAULTS)
        elif reference.startswith("bench "):
            assert (REPOSITORY / "benchmarks" / f"{reference.split()[1]}.py").exists()
        else:
            file, name = reference.split("::")
            assert name in functions_of(TESTS / file), reference


def test_every_fault_belongs_to_a_row_that_names_it() -> None:
    for fault in FAULTS:
        row = int(fault.name.split()[0])
        assert "FAULTS" in ROWS[row], fault.name
