"""Two simple policies on `HolonSlicing-v0`, evaluated; the second one is trained.

`python -m models.gym.example [--scenario S] [--run DIR]`: reserves today's demand with a
margin; the margin is found by a small random search on training seeds and shown on others.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np
import numpy.typing as npt

from models.gym import ENVIRONMENT_ID
from models.gym.slicing import FEATURES

TRAINING_SEEDS = (1, 2, 3)
CHECK_SEEDS = (11, 12, 13)
CANDIDATES = 12


def follow(
    observation: npt.NDArray[np.float32], margin_ratio: float, trend_ratio: float
) -> npt.NDArray[np.float32]:
    """Demand, `trend_ratio` times its rise, and a margin, as a share of what is reservable."""
    features = observation.reshape(-1, FEATURES)
    wanted = features[:, 0] * (1 + margin_ratio) + trend_ratio * features[:, 1] + 0.02
    return np.clip(wanted, 0.0, 1.0).astype(np.float32)


def mean_reward(
    env: gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    seeds: tuple[int, ...],
    margin_ratio: float,
    trend_ratio: float,
) -> float:
    rewards = []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            action = follow(observation, margin_ratio, trend_ratio)
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(float(reward))
            ended = terminated or truncated
    return float(np.mean(rewards))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--run", help="replay a results folder instead of new demand")
    options = parser.parse_args()
    env = gymnasium.make(ENVIRONMENT_ID, scenario=options.scenario, run=options.run)
    draw = np.random.default_rng(1)
    candidates = [
        (0.0, 0.0),
        *((draw.uniform(0, 0.6), draw.uniform(0, 6)) for _ in range(CANDIDATES)),
    ]
    best = max(candidates, key=lambda c: mean_reward(env, TRAINING_SEEDS, *c))
    for name, found in (("demand as it is", candidates[0]), ("found by search", best)):
        reward = mean_reward(env, CHECK_SEEDS, *found)
        print(f"{name:16s} margin {found[0]:.2f} trend {found[1]:.2f}: mean reward {reward:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
