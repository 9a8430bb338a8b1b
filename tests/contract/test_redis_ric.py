"""A RIC whose shared data layer is Redis: what it publishes, others read without it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.contract.conftest import redis_environment, redis_store
from tests.ric_bench import running_ric, start_ric, write_run
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_another_sdl_program_reads_the_twins(
    namespaces: dict[str, int], redis_port: int, tmp_path: Path
) -> None:
    run, inventory = write_run(tmp_path / "r1", namespaces)
    store = redis_store(redis_port)
    with running_ric(run, inventory, redis_environment(redis_port)) as ric:
        ric.send_aggregate()
        key = "slice/1-000001"

        def demand_kbps() -> float | None:
            found = store.get("holon.twins", key)
            attributes = json.loads(found[key])["attributes"] if found else {}
            value: float | None = attributes.get("demand_kbps", {}).get("value")
            return value

        wait_until(lambda: demand_kbps() == 11_000, 5)
    store.close()


def test_a_redis_that_is_asked_for_and_absent_ends_the_ric_with_one_line(
    namespaces: dict[str, int], tmp_path: Path
) -> None:
    run, inventory = write_run(tmp_path / "r2", namespaces)
    ric = start_ric(run, inventory, redis_environment(free_port()))
    ric.process.wait(timeout=20)
    status, output = ric.stop()
    assert status == 1
    (line,) = [line for line in output.splitlines() if line.startswith("ric:")]
    assert "DBAAS_SERVICE_HOST" in line
    ric.session.close()
