"""Whom to represent (VL3): k users whose reports stand for those who are like them.  Pure.

k-medoids on what users asked for lately: first each next medoid that helps most, then
swaps while one helps.  Nobody stands for users of other slices, so each set of slices that
users have (a kin) gets one before any gets a second.  The same input and seed give the
same choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

STRANGERS = 1e6
"""Distance of users of different slices: farther than any saving is worth.  Shapes of mean 1 are
at most 2 apart."""
LEAST_KBPS = 1e-3
"""What a user weighs that asks for nothing: it has a representative too."""
SWAPS_MAX = 50


@dataclass(frozen=True)
class Choice:
    """`medoids` [k] and, for each user, which of them (an index of users) stands for it."""

    medoids: IntArray
    representative: IntArray
    cost: float
    """kbit/s by which estimates of all users are wrong on average, within the history."""


def distances(demand_kbps: Mapping[int, FloatArray]) -> FloatArray:
    """[user, user] from slice id -> [user, bin]: mean absolute difference of shapes of mean 1.

    NaN rows: users without a session in the slice.  Several slices weigh with the demand of
    the user that is to be represented (the row).
    """
    arrays = list(demand_kbps.values())
    users = arrays[0].shape[0]
    total, weight = np.zeros((users, users)), np.zeros(users)
    known: list[BoolArray] = [np.asarray(~np.isnan(a).all(axis=1)) for a in arrays]
    for array, has in zip(arrays, known, strict=True):
        mean = np.where(has, np.nan_to_num(array).mean(axis=1), 0.0)
        shape = np.nan_to_num(array) / np.where(mean > 0, mean, 1.0)[:, None]
        apart = np.abs(shape[:, None, :] - shape[None, :, :]).mean(axis=2)
        total += mean[:, None] * apart
        weight += mean
    found = total / np.where(weight > 0, weight, 1.0)[:, None]
    same: npt.NDArray[np.bool_] = np.all(
        np.stack([has[:, None] == has[None, :] for has in known]), axis=0
    )
    found = np.where(same, found, STRANGERS)
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def weights_kbps(demand_kbps: Mapping[int, FloatArray]) -> FloatArray:
    """[user]: what each asks for, all slices together."""
    return np.asarray(sum(np.nan_to_num(a).mean(axis=1) for a in demand_kbps.values()))


def kin(apart: FloatArray) -> list[int]:
    """[user]: the first user with the same slices."""
    return [int(i) for i in np.argmax(apart < STRANGERS, axis=1)]


def choose(apart: FloatArray, weight: FloatArray, count: int, seed: int = 0) -> Choice:
    """`count` medoids for users at these distances, or one for each kin if there are more of
    these; everybody for themselves when there are as many.  `seed` decides between equals.
    ValueError for a count below 1."""
    users = apart.shape[0]
    if count < 1:
        raise ValueError(f"{count} representatives: at least 1")
    if users == 0:
        return Choice(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 0.0)
    order = np.random.default_rng(seed).permutation(users)
    weight = np.maximum(weight, LEAST_KBPS)
    shuffled = (weight[:, None] * apart)[np.ix_(order, order)]
    count = max(count, len(set(kin(apart))))
    medoids = _built(shuffled, min(count, users))
    medoids = _swapped(shuffled, medoids)
    chosen = np.sort(order[medoids])
    return assigned(apart, weight, chosen)


def assigned(apart: FloatArray, weight: FloatArray, medoids: IntArray) -> Choice:
    """Everybody to the nearest of these medoids."""
    nearest = medoids[np.argmin(apart[:, medoids], axis=1)]
    nearest[medoids] = medoids
    users = np.arange(apart.shape[0])
    return Choice(medoids, nearest, float((weight * apart[users, nearest]).sum()))


def _built(cost: FloatArray, count: int) -> list[int]:
    """`cost` [represented, representative]."""
    best = np.full(cost.shape[0], np.inf)
    medoids: list[int] = []
    for _ in range(count):
        sums = np.minimum(best[:, None], cost).sum(axis=0)
        sums[medoids] = np.inf
        medoids.append(int(np.argmin(sums)))
        best = np.minimum(best, cost[:, medoids[-1]])
    return medoids


def _swapped(cost: FloatArray, medoids: list[int]) -> list[int]:
    """One swap at a time, the best there is, while it saves something."""
    medoids = list(medoids)
    for _ in range(SWAPS_MAX):
        now = cost[:, medoids].min(axis=1).sum()
        best_saving, best_swap = 1e-9 * max(1.0, now), None
        for place in range(len(medoids)):
            others = medoids[:place] + medoids[place + 1 :]
            kept = cost[:, others].min(axis=1) if others else np.full(cost.shape[0], np.inf)
            sums = np.minimum(kept[:, None], cost).sum(axis=0)
            sums[medoids] = np.inf
            candidate = int(np.argmin(sums))
            if now - sums[candidate] > best_saving:
                best_saving, best_swap = now - sums[candidate], (place, candidate)
        if best_swap is None:
            break
        medoids[best_swap[0]] = best_swap[1]
    return medoids
