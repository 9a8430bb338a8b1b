"""`./testbed.sh test` runs every kind of test once, and tells one verdict about all of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import KINDS, TESTS
from tests.waiting import wait_until
from topologies.checkout import environment_of_rooms
from topologies.cli.whole_suite import STAGES, run_parts

RUN_ALONE = {"emulated", "faults"}


def test_every_kind_is_in_one_part_and_what_measures_packets_is_alone() -> None:
    parts = [part for stage in STAGES for part in stage]
    assert sorted(kind for part in parts for kind in part) == sorted(KINDS)
    with_tests = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert with_tests == set(KINDS), "a folder of tests that nobody runs"
    for stage in STAGES:
        if any(RUN_ALONE.intersection(part) for part in stage):
            assert len(stage) == 1


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Three kinds; the second fails."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for kind, holds in (("one", True), ("two", False), ("three", True)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"test_{kind}.py").write_text(f"def test_{kind}():\n    assert {holds}")
    return tmp_path


def test_one_failure_anywhere_is_the_verdict_and_the_rest_is_run(
    suite: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_parts(suite, ((("one",), ("two",)), (("three",),))) == 1
    shown = capfd.readouterr().out
    assert shown.count("1 passed") == 2 and shown.count("1 failed") == 1
    assert "test suite FAILED" in shown.splitlines()[-1] and "two" in shown.splitlines()[-1]


def test_all_passed_is_the_last_line(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_parts(suite, ((("one", "three"),),)) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("test suite passed in ")


PATIENT = """
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).parent

@pytest.fixture
def thing():
    (HERE / "begun").touch()
    yield
    (HERE / "put-away").touch()

def test_waits(thing):
    threading.Event().wait(60)
"""
RUN_ONE = """
import sys
from pathlib import Path
from topologies.cli.whole_suite import run_parts

run_parts(Path(sys.argv[1]), ((("one",),),))
"""


def test_interrupted_it_lets_tests_put_their_things_away(suite: Path) -> None:
    (suite / "one" / "test_one.py").write_text(PATIENT)
    running = subprocess.Popen(
        [sys.executable, "-c", RUN_ONE, str(suite)],
        env=environment_of_rooms(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((suite / "one" / "begun").exists, 30)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) != 0
    assert (suite / "one" / "put-away").exists()
