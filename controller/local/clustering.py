"""Whom of the users here to represent: clusters of what they asked for lately."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from controller.contracts.twin_budget import Represented
from controller.local.admission import Roster
from controller.local.demand_tracks import DemandTracks
from controller.twins.representatives import choose, distances, weights_kbps

if TYPE_CHECKING:
    from controller.local.service import LocalController

BINS = 15


def clusters(controller: LocalController, roster: Roster, wanted: Represented) -> dict[str, str]:
    """ue_id -> its representative, itself for representatives; users with a twin here only.

    Nobody stands for users of other slices, so there is at least one for each set of them.
    Shapes are compared in bins of the period of those who are represented.
    """
    here = {
        u: roster.users[u].slice_ids
        for u in sorted(controller.twins)
        if controller.windows.attachment(u) is not None
    }
    return chosen(controller.tracks, here, wanted, time.time_ns())


def chosen(
    tracks: DemandTracks,
    slice_ids: dict[str, frozenset[int]],
    wanted: Represented,
    now_ns: int,
) -> dict[str, str]:
    if not slice_ids:
        return {}
    ue_ids = list(slice_ids)
    demand = {}
    for slice_id in sorted(set().union(*slice_ids.values())):
        rows = tracks.binned_kbps(ue_ids, slice_id, wanted.period_ms * 1_000_000, BINS, now_ns)
        without = np.array([slice_id not in slice_ids[u] for u in ue_ids])
        demand[slice_id] = np.where(without[:, None], np.nan, rows)
    choice = choose(distances(demand), weights_kbps(demand), wanted.users, wanted.seed)
    return {u: ue_ids[int(i)] for u, i in zip(ue_ids, choice.representative, strict=True)}
