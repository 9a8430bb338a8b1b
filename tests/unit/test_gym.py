"""The Gymnasium environment: its contract, its documents, its determinism."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.contracts.decisions import DecisionRequest
from controller.contracts.slices import SNssai
from controller.twins.history import TwinTable
from tests.conftest import REPOSITORY
from tests.sample_recording import twin_row

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium (requirements/train.in)")


def made(**settings: Any) -> Any:
    from models.gym.slicing import SlicingEnv

    return SlicingEnv("minimal", episode_s=5, **settings)


def test_it_passes_the_checker() -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(made(), skip_render_check=True)


def test_seeds_decide_the_episode() -> None:
    env = made()
    first, _ = env.reset(seed=4)
    again, _ = env.reset(seed=4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, env.reset(seed=5)[0])


def test_actions_are_decisions_and_observations_are_cell_documents_as_live() -> None:
    from holon_xapp.events import CellEvent, parse_event

    env = made()
    env.reset(seed=1)
    _, _, _, _, info = env.step(np.full(2, 0.9, np.float32))
    request = DecisionRequest.model_validate(info["decisions"][0])
    asked = [r["min_kbps"] for r in request.parameters["reservations"]]
    assert sum(asked) <= info["cells"][0]["reservable_kbps"]
    parsed = parse_event(json.dumps(info["cells"][0]))
    assert isinstance(parsed, CellEvent)
    assert [str(s.s_nssai) for s in parsed.slices] == [
        str(SNssai(sst=1, sd="000001")),
        str(SNssai(sst=2, sd="000002")),
    ]


def test_reserving_nothing_is_worse_than_what_is_asked() -> None:
    def episode(action: Any) -> float:
        env = made()
        env.reset(seed=2)
        return sum(env.step(np.array(action, np.float32))[1] for _ in range(9))

    assert episode([0.0, 0.0]) < episode([0.75, 0.25]) - 1.0


def test_it_can_be_vectorised() -> None:
    import models.gym as holon_gym

    name = holon_gym.ENVIRONMENT_ID
    envs = gymnasium.make_vec(
        name, num_envs=2, vectorization_mode="sync", scenario="minimal", episode_s=5
    )
    observations, _ = envs.reset(seed=1)
    assert observations.shape[0] == 2
    envs.close()


def test_a_shipped_xapp_plays_unchanged_and_the_same_each_time() -> None:
    from models.gym.xapp import play

    folder = REPOSITORY / "xapps" / "slice_planner"
    played = [play(folder, made(), seed=3) for _ in range(2)]
    asked = [[d.record["parameters"] for d in p.decisions] for p in played]
    assert len(asked[0]) >= 2
    assert asked[0] == asked[1]
    assert played[0].rewards == played[1].rewards
    assert any(d.is_applied for d in played[0].decisions)
    idle = made()
    idle.reset(seed=3)
    nothing = [idle.step(np.zeros(2, np.float32))[1] for _ in played[0].rewards]
    assert sum(played[0].rewards) > sum(nothing)


def test_an_xapp_of_ones_own_is_guarded_in_the_gym_as_live(tmp_path: Path) -> None:
    from models.gym.xapp import play

    descriptor = {"xapp_name": "greedy", "holon": {"entry_point": "xapp.py", "config": {"of": 1.5}}}
    (tmp_path / "config-file.json").write_text(json.dumps(descriptor))
    (tmp_path / "xapp.py").write_text(GREEDY)
    played = play(tmp_path, made(), seed=1)
    assert {d.verdict for d in played.decisions} == {"rejected"}
    assert "minima would sum" in played.decisions[0].reason
    assert len(played.rewards) == 9


GREEDY = """
import time
from holon_xapp import PlannedReservation, ReservationPlan, Xapp

def main():
    xapp = Xapp.from_environment()
    xapp.ready()
    for event in xapp.cells():
        first = event.slices[0]
        wish = PlannedReservation(
            first.s_nssai, first.traffic_class,
            min_kbps=int(event.reservable_kbps), max_kbps=int(event.capacity_kbps),
        )
        xapp.decide(ReservationPlan.answering(event, (wish,), time.time_ns()))
    return 0
"""


def test_a_recorded_run_is_an_episode(tmp_path: Path) -> None:
    from gymnasium.utils.env_checker import check_env

    from models.gym.slicing import SlicingEnv

    table = TwinTable()
    for window in range(100, 110):
        for slice_id in (1, 2):
            table.append(twin_row(window, 0, "ap1", slice_id))
    table.flush(tmp_path)
    env = SlicingEnv("minimal", run=tmp_path)
    _, info = env.reset()
    shown = [info]
    truncated = False
    while not truncated:
        _, _, _, truncated, info = env.step(np.full(2, 0.5, np.float32))
        shown.append(info)
    demand = [[s["demand_kbps"] for s in i["cells"][0]["slices"]] for i in shown]
    recorded = [[twin_row(w, 0, "ap1", s).demand_kbps for s in (1, 2)] for w in range(100, 110)]
    assert demand == [pytest.approx(of_window) for of_window in recorded]
    check_env(SlicingEnv("minimal", run=tmp_path), skip_render_check=True)
    with pytest.raises(ValueError, match="cells mbs"):
        SlicingEnv("crossroads", run=tmp_path)
