"""The Gymnasium environment: its contract, its documents, its determinism."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from controller.contracts.decisions import DecisionRequest
from controller.contracts.slices import SNssai

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
