"""Long work gives way: never longer than a slice and one item without a pause."""

from __future__ import annotations

import gc

from controller.pacing import Pace, Uncollected


def test_no_stretch_of_work_is_longer_than_a_slice_and_one_item() -> None:
    now_s, pauses_s = [0.0], [0.0]
    pace = Pace(lambda: pauses_s.append(now_s[0]), lambda: now_s[0], slice_s=0.005)
    done = []
    for item in pace.through(range(1000)):
        now_s[0] += 0.001
        done.append(item)
    assert done == list(range(1000))
    stretches_s = [b - a for a, b in zip(pauses_s, pauses_s[1:], strict=False)]
    assert len(stretches_s) >= 150 and max(stretches_s) <= 0.006 + 1e-9


def test_time_spent_in_a_pause_is_nobody_s_slice() -> None:
    now_s = [0.0]
    pauses = []

    def pause() -> None:
        pauses.append(now_s[0])
        now_s[0] += 1.0

    for _ in Pace(pause, lambda: now_s[0], slice_s=0.0045).through(range(20)):
        now_s[0] += 0.001
    assert len(pauses) == 4


def test_a_large_list_is_let_go_bit_by_bit() -> None:
    now_s, pauses, freed = [0.0], [], []

    class Item:
        def __del__(self) -> None:
            now_s[0] += 0.001
            freed.append(now_s[0])

    items = [Item() for _ in range(20)]
    Pace(lambda: pauses.append(len(freed)), lambda: now_s[0], slice_s=0.0045).drop(items)
    assert items == [] and len(freed) == 20
    assert pauses == [5, 10, 15, 20]


def test_garbage_is_collected_again_when_the_last_has_left() -> None:
    uncollected = Uncollected()
    with uncollected:
        with uncollected:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
