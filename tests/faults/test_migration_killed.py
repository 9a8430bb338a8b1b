"""Service migration killed at each step: exactly one instance is live, and only one ever was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.migration import Step
from tests.migration_bench import Bench, bench, two_servers
from tests.waiting import wait_until

RECOVERY_S = 8.0
"""A frozen source takes itself back after 3 s; processes start in between."""
BEFORE = 5
"""Requests that the state remembers when the migration begins."""
STEPS = list(Step)
TRIED = [Step.SWITCH_OVER, Step.COMMIT, Step.GO_LIVE, Step.DRAIN]
"""The steps that differ: what dies earlier is given up as at the first, later as at the last.
HOLON_ALL_STEPS=1 tries every one of them."""
if os.environ.get("HOLON_ALL_STEPS"):
    TRIED = STEPS


@pytest.fixture(scope="module")
def pids() -> Iterator[dict[str, int]]:
    with two_servers() as found:
        yield found


@pytest.fixture
def servers(pids: dict[str, int], tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "run", pids) as running:
        for _ in range(BEFORE):
            assert set(running.answers()) == {"edge1"}
        yield running


def exactly_one_live(servers: Bench) -> str:
    """The host that answers in the end; at no time did both."""
    answered: list[str] = []

    def one() -> bool:
        answers = servers.answers()
        assert len(answers) <= 1, f"two instances answered: {answers}"
        answered[:] = answers
        servers.recover()
        alive = [i["host"] for i in servers.engine.instances() if i["alive"]]
        return len(answered) == 1 and alive == answered

    wait_until(one, RECOVERY_S)
    return answered[0]


def test_a_migration_moves_the_state_and_ends_the_source(servers: Bench) -> None:
    done = servers.migrate("none", "nobody")
    assert done.returncode == 0, done.stderr
    assert exactly_one_live(servers) == "edge2"
    reply = servers.answers()["edge2"]
    assert reply.counter > BEFORE, "the session's state did not come along"


@pytest.mark.parametrize("step", [s for s in TRIED if s is not Step.START_TARGET])
def test_target_killed(step: Step, servers: Bench) -> None:
    servers.migrate(step.value, "target")
    host = exactly_one_live(servers)
    if STEPS.index(step) <= STEPS.index(Step.GO_LIVE):
        assert host == "edge1"
        assert servers.answers()[host].counter > BEFORE, "the source had the state and lost it"


@pytest.mark.parametrize("step", TRIED)
def test_source_killed(step: Step, servers: Bench) -> None:
    servers.migrate(step.value, "source")
    host = exactly_one_live(servers)
    assert host == ("edge2" if STEPS.index(step) > STEPS.index(Step.COMMIT) else host)
    if host == "edge2":
        assert servers.answers()[host].counter > BEFORE


@pytest.mark.parametrize("step", sorted({*TRIED, Step.FLIP}, key=STEPS.index))
def test_coordinator_killed(step: Step, servers: Bench) -> None:
    assert servers.migrate(step.value, "coordinator").returncode != 0
    host = exactly_one_live(servers)
    committed = STEPS.index(step) > STEPS.index(Step.COMMIT)
    assert host == ("edge2" if committed else "edge1")
    assert servers.answers()[host].counter > BEFORE, "state was lost though no server died"
