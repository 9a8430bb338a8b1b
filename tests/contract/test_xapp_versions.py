"""A version takes another's place, and the one before comes back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ric_bench import LISTENING, RunningRic, write_xapp
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def version(folder: Path, number: str, source: str = LISTENING, name: str = "planner") -> Path:
    def prepare(document: dict[str, Any]) -> None:
        document.update(xapp_name=name, version=number)

    return write_xapp(folder, source, prepare)


def upgrade(ric: RunningRic, folder: Path, **fields: Any) -> requests.Response:
    body = {"descriptor_dir": str(folder), **fields}
    return ric.call("POST", "xapps/planner/upgrade", json=body)


def rollback(ric: RunningRic) -> requests.Response:
    return ric.call("POST", "xapps/planner/rollback", json={})


@pytest.fixture
def first(ric: RunningRic, tmp_path: Path) -> Any:
    """Version 1.0.0, deployed at an edge with a configuration of its own."""
    folder = version(tmp_path / "one", "1.0.0")
    body = {"descriptor_dir": str(folder), "placement": "edge1", "config": {"margin": 0.5}}
    answer = ric.call("POST", "xapps", json=body)
    assert answer.status_code == 201, answer.text
    yield folder
    ric.call("DELETE", "xapps/planner")


def running(ric: RunningRic) -> tuple[str, str]:
    document = ric.get("xapps/planner")
    return document["version"], document["state"]


def said(ric: RunningRic) -> list[str]:
    lines: list[str] = ric.get("xapps/planner/logs")["lines"]
    return [line for line in lines if line.startswith("config ")]


def test_upgraded_and_rolled_back(ric: RunningRic, tmp_path: Path, first: Path) -> None:
    before = ric.get("xapps/planner")["pid"]
    answer = upgrade(ric, version(tmp_path / "two", "2.0.0"))
    assert answer.status_code == 200, answer.text
    assert (answer.json()["version"], answer.json()["placement"]) == ("2.0.0", "edge1")
    assert not Path(f"/proc/{before}").exists()
    wait_until(lambda: len(said(ric)) == 2, 5)
    assert said(ric)[0] == said(ric)[1], "the configuration is kept"
    assert upgrade(ric, version(tmp_path / "three", "3.0.0"), config={"margin": 0.9}).ok
    wait_until(lambda: '"margin": 0.9' in said(ric)[-1], 5)
    for expected in ("2.0.0", "1.0.0"):
        assert rollback(ric).json()["version"] == expected
    wait_until(lambda: '"margin": 0.5' in said(ric)[-1], 5)
    assert rollback(ric).status_code == 409
    assert running(ric) == ("1.0.0", "running")
    assert len(ric.get("xapps")) == 1


def test_a_version_that_does_not_start_gives_its_place_back(
    ric: RunningRic, tmp_path: Path, first: Path
) -> None:
    answer = upgrade(ric, version(tmp_path / "two", "2.0.0", "sys.exit('no model')\n"))
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert "did not start: exited with status 1: no model" in error
    assert "version 1.0.0 runs again" in error
    assert running(ric) == ("1.0.0", "running")
    assert rollback(ric).status_code == 409


def test_what_cannot_take_its_place_is_refused_while_it_runs_on(
    ric: RunningRic, tmp_path: Path, first: Path
) -> None:
    pid = ric.get("xapps/planner")["pid"]
    for folder, status, words in (
        (version(tmp_path / "other", "2.0.0", name="other"), 409, "is xApp 'planner', not 'other'"),
        (tmp_path / "nowhere", 422, "no xApp descriptor at"),
    ):
        answer = upgrade(ric, folder)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True)
    assert ric.call("POST", "xapps/nobody/upgrade", json={"descriptor_dir": "x"}).status_code == 404
    assert ric.call("POST", "xapps/nobody/rollback", json={}).status_code == 404
    assert ric.get("xapps/planner")["pid"] == pid


def test_changed_code_is_not_what_ran_before(ric: RunningRic, tmp_path: Path, first: Path) -> None:
    """Edited in place: the version is new, and the old one is nowhere any more."""
    (first / "xapp.py").write_text((first / "xapp.py").read_text() + "\n# better\n")
    assert upgrade(ric, first).ok
    answer = rollback(ric)
    assert answer.status_code == 409
    assert f"ran from {first}, which has changed since" in answer.json()["error"]
    assert running(ric) == ("1.0.0", "running")
