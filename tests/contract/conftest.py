"""A running RIC for contract tests, on namespaces of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.ric_bench import Neighbours, RunningRic, host_namespaces, running_ric, write_run


@pytest.fixture(scope="module")
def namespaces() -> Iterator[dict[str, int]]:
    with host_namespaces(f"holon-t-ric-{os.getpid()}") as pids:
        yield pids


@pytest.fixture(scope="module")
def neighbours(
    namespaces: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Neighbours]:
    run, _ = write_run(tmp_path_factory.mktemp("ric") / "r1", namespaces)
    with Neighbours(run, {"ue1": {"id": "ue1", "version": 3}}).serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def ric(namespaces: dict[str, int], neighbours: Neighbours) -> Iterator[RunningRic]:
    run, inventory = write_run(neighbours.run.path, namespaces)
    with running_ric(run, inventory) as running:
        yield running
