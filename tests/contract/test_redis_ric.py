"""A RIC whose shared data layer is Redis: what it publishes, and who reads it without the RIC."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from controller.contracts.shared_data_layer import RedisAccount
from tests.conftest import free_port
from tests.contract.conftest import guarded_environment, redis_environment, redis_store
from tests.ric_bench import RunningRic, in_host, running_ric, start_ric, write_run
from tests.waiting import wait_until
from topologies import doctor

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
        (alarm,) = [a for a in ric.status()["alarms"] if "Redis" in a]
        assert "reads every slice's twins" in alarm
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


def test_a_wrong_password_ends_the_ric_with_one_line_that_does_not_show_it(
    namespaces: dict[str, int], guarded_port: int, tmp_path: Path
) -> None:
    run, inventory = write_run(tmp_path / "r3", namespaces)
    ric = start_ric(run, inventory, redis_environment(guarded_port, "holon", "guessed"))
    ric.process.wait(timeout=20)
    status, output = ric.stop()
    ric.session.close()
    assert status == 1
    (line,) = [line for line in output.splitlines() if line.startswith("ric:")]
    assert "DBAAS_SERVICE_PASSWORD" in line
    assert "guessed" not in output
    assert "guessed" not in repr(RedisAccount("h", 1, "holon", "guessed"))


# -- a server that is closed by the rules in docs/shared-data-layer.md ----------------------

OWN, OTHER, CELL = (
    f"{{holon.twins}},{key}" for key in ("slice/1-000001", "slice/2-000002", "cell/ap1")
)


@pytest.fixture(scope="module")
def guarded(
    namespaces: dict[str, int], guarded_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningRic]:
    run, inventory = write_run(tmp_path_factory.mktemp("guarded") / "r1", namespaces)
    with running_ric(run, inventory, guarded_environment(guarded_port)) as ric:
        yield ric


def client(port: int, user: str | None = None, password: str | None = None) -> Any:
    once = Retry(NoBackoff(), 0)
    return redis.Redis("127.0.0.1", port, username=user, password=password, retry=once)


def test_nobody_reads_a_guarded_redis_without_a_password(
    guarded: RunningRic, guarded_port: int
) -> None:
    ours = client(guarded_port, "holon", "change-me")
    guarded.send_aggregate()
    wait_until(lambda: bool(ours.exists(OWN) and ours.exists(OTHER) and ours.exists(CELL)), 5)
    stranger = client(guarded_port)
    for command in (("GET", OWN), ("SCAN", "0"), ("SUBSCRIBE", OWN), ("CONFIG", "GET", "*")):
        with pytest.raises(redis.AuthenticationError):
            stranger.execute_command(*command)
    assert [a for a in guarded.status()["alarms"] if "Redis" in a] == []
    for connection in (ours, stranger):
        connection.close()


def test_an_xapps_token_still_reads_and_writes_over_the_api(guarded: RunningRic) -> None:
    request = {"ns": "mine", "values": {"k": "dg=="}}
    assert guarded.call("POST", "sdl/set", json=request).status_code == 200
    answer = guarded.call("POST", "sdl/get", json={"ns": "mine", "keys": ["k"]})
    assert answer.json() == {"result": {"k": "dg=="}}


def test_a_reader_of_one_slice_reads_that_one_only(guarded: RunningRic, guarded_port: int) -> None:
    video = client(guarded_port, "video", "change-me-too")
    events = video.pubsub(ignore_subscribe_messages=True)
    events.subscribe(OWN)

    def hears() -> bool:
        guarded.send_aggregate()
        message = events.get_message(timeout=0.5)
        return message is not None and message["data"] == b"1-000001"

    wait_until(hears, 10)
    assert json.loads(video.get(OWN))["id"] == "1-000001"
    forbidden = (
        *(("GET", key) for key in (OTHER, CELL, "{holon.strategy},1-000001")),
        *(("MGET", OWN, OTHER), ("SET", OWN, "x"), ("DEL", OWN), ("SCAN", "0")),
        *(("EVAL", "return redis.call('GET', KEYS[1])", "1", OTHER), ("ACL", "LIST")),
        *(("SUBSCRIBE", "{holon.twins},slice"), ("PSUBSCRIBE", "*"), ("PUBLISH", OWN, "x")),
    )
    for command in forbidden:
        with pytest.raises(redis.exceptions.NoPermissionError):
            video.execute_command(*command)
    events.close()
    video.close()


def test_the_rics_account_administers_nothing(guarded: RunningRic, guarded_port: int) -> None:
    ours = client(guarded_port, "holon", "change-me")
    for command in (("ACL", "LIST"), ("CONFIG", "GET", "*"), ("FLUSHALL",), ("SHUTDOWN",)):
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.execute_command(*command)
    ours.close()


def test_where_xapps_run_there_is_no_way_to_redis(
    namespaces: dict[str, int], redis_port: int
) -> None:
    """Even to an open one."""
    connecting = f"import socket; socket.create_connection(('127.0.0.1', {redis_port}), 2)"
    for host in ("centre", "edge1"):
        done = in_host(namespaces[host], [sys.executable, "-c", connecting])
        assert done.returncode != 0 and "refused" in done.stderr.lower()


def test_the_doctor_tells_an_open_redis_from_a_guarded_one(
    redis_port: int, guarded_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBAAS_SERVICE_HOST", raising=False)
    assert list(doctor._shared_data_layer()) == []
    expected = (
        (redis_port, False, "lets in anybody"),
        (guarded_port, True, "with a password only"),
        (free_port(), False, "no Redis at"),
    )
    for port, ok, words in expected:
        for name, value in redis_environment(port).items():
            monkeypatch.setenv(name, value)
        (check,) = doctor._shared_data_layer()
        assert (check.ok, check.required) == (ok, False)
        assert words in check.found
