"""Whether packets show that a slice is where a decision brought it, or gone from there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from controller.contracts.decisions import Effect
from controller.ric.judgement import Judgement
from controller.ric.measurement import CounterSample

PRESENCE_WINDOW_MS = 2000


@dataclass(frozen=True)
class WatchedPresence:
    """`wanted`: the slice's packets shall pass in these cells; else none shall."""

    decision_id: str
    slice_id: int
    cells: frozenset[str]
    wanted: bool
    confirmed_ns: int


def judge_presence(watched: WatchedPresence, samples: Sequence[CounterSample]) -> Judgement | None:
    """None while the window is open. `samples` oldest first, from before and after.

    Wanted: verified by any packet at the slice's meters there, else not exercised.  Not
    wanted: refuted by a packet; verified when there were packets before and are none now.
    """
    after = [s for s in samples if s.taken_at_ns >= watched.confirmed_ns]
    before = [s for s in samples if s.taken_at_ns < watched.confirmed_ns]
    if not after or (after[-1].taken_at_ns - after[0].taken_at_ns) / 1e6 < PRESENCE_WINDOW_MS:
        return None
    arrived_bytes = _grown_bytes(watched.slice_id, watched.cells, after)
    detail: dict[str, object] = {
        "slice_id": watched.slice_id,
        "cells": sorted(watched.cells),
        "arrived_bytes": arrived_bytes,
    }
    if watched.wanted:
        if arrived_bytes:
            return Judgement(Effect.VERIFIED, detail)
        return Judgement(Effect.NOT_EXERCISED, {**detail, "reason": "no packet of it was seen"})
    if arrived_bytes:
        return Judgement(Effect.REFUTED, detail)
    earlier_bytes = _grown_bytes(watched.slice_id, watched.cells, before)
    detail["arrived_before_bytes"] = earlier_bytes
    return Judgement(Effect.VERIFIED if earlier_bytes else Effect.NOT_EXERCISED, detail)


def _grown_bytes(slice_id: int, cells: Collection[str], samples: Sequence[CounterSample]) -> int:
    """At the slice's downlink meters; a meter that came meanwhile counts from 0."""
    if not samples:
        return 0
    first, last = samples[0].classes, samples[-1].classes
    keys = [k for k in last if k[0] in cells and k[1] == slice_id]
    return sum(
        max(0, last[k].arrived_bytes - (first[k].arrived_bytes if k in first else 0)) for k in keys
    )
