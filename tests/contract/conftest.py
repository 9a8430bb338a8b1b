"""A running RIC for contract tests, on namespaces of its own; and a Redis."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from controller.store.errors import NotConnected
from controller.store.sdl import Sdl, open_store
from tests.conftest import free_port
from tests.ric_bench import Neighbours, RunningRic, host_namespaces, running_ric, write_run
from tests.waiting import wait_until


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


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), 10)
        yield port
    finally:
        server.terminate()
        server.wait()


def redis_environment(port: int) -> dict[str, str]:
    return {"DBAAS_SERVICE_HOST": "127.0.0.1", "DBAAS_SERVICE_PORT": str(port)}


def redis_store(port: int) -> Sdl:
    return open_store(redis_environment(port))


def _answers(port: int) -> bool:
    try:
        redis_store(port).close()
    except NotConnected:
        return False
    return True
