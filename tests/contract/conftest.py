"""A running RIC for contract tests, on namespaces of its own; and a Redis."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.sdl import Sdl, open_store
from tests.conftest import REPOSITORY, free_port
from tests.documented import blocks
from tests.ric_bench import Neighbours, RunningRic, host_namespaces, running_ric, write_run
from tests.waiting import wait_until

DATA_LAYER_PAGE = REPOSITORY / "docs" / "shared-data-layer.md"


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


@contextlib.contextmanager
def running_redis(folder: Path, settings: str = "") -> Iterator[int]:
    """Debian's redis-server with these lines of `redis.conf`, on loopback; its port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    port, configuration = free_port(), folder / "redis.conf"
    configuration.write_text(settings)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command = [program, str(configuration), *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), 10)
        yield port
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(scope="module")
def guarded_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server with the access rules that the documentation gives."""
    rules = "".join(blocks(DATA_LAYER_PAGE, language="conf"))
    with running_redis(tmp_path_factory.mktemp("guarded"), rules) as port:
        yield port


def redis_environment(port: int, user: str = "", password: str = "") -> dict[str, str]:
    return {
        "DBAAS_SERVICE_HOST": "127.0.0.1",
        "DBAAS_SERVICE_PORT": str(port),
        "DBAAS_SERVICE_USER": user,
        "DBAAS_SERVICE_PASSWORD": password,
    }


def guarded_environment(port: int) -> dict[str, str]:
    return redis_environment(port, "holon", "change-me")


def redis_store(port: int) -> Sdl:
    return open_store(redis_environment(port))
