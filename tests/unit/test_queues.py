"""Queues: the intent from reservations, and the rows they become."""

from __future__ import annotations

import pytest

from controller.contracts.inventory import Reservation
from controller.contracts.queue_tree import LEAST_RATE_KBPS, PRIORITY, QueueRates, queue_row
from controller.contracts.slices import TrafficClass
from controller.errors import ReservationError, UnknownTargetError
from controller.network_state import initial_state
from controller.network_view import network_of
from controller.queues import queue_rates
from controller.reservations import admitted, headroom, queue_diff
from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory

INVENTORY = planned_inventory(two_cells())
NETWORK = network_of(INVENTORY)
ELASTIC, REAL_TIME = TrafficClass.ELASTIC, TrafficClass.REAL_TIME
VIDEO_QUEUE, CONTROL_QUEUE = 5, 10


def reservation(slice_id: int, traffic_class: TrafficClass, low: int, high: int) -> Reservation:
    return Reservation(slice_id=slice_id, traffic_class=traffic_class, min_kbps=low, max_kbps=high)


def downlink(*reservations: Reservation) -> dict[int, QueueRates]:
    state = initial_state(INVENTORY).reserved("ap1", reservations)
    return dict(queue_rates(NETWORK, state)["ap1_1"])


class TestIntent:
    def test_elastic_has_its_guarantee_and_its_ceiling(self) -> None:
        found = downlink(reservation(1, ELASTIC, 8000, 15000))
        assert found[VIDEO_QUEUE] == QueueRates(8000, 15000, PRIORITY[ELASTIC])

    def test_real_time_is_shaped_to_its_guarantee(self) -> None:
        found = downlink(reservation(2, REAL_TIME, 2000, 9000))
        assert found[CONTROL_QUEUE] == QueueRates(2000, 2000, PRIORITY[REAL_TIME])

    def test_without_reservation_least_guarantee_whole_link_and_no_privilege(self) -> None:
        lowest = max(PRIORITY.values())
        assert PRIORITY[REAL_TIME] < lowest
        for rates in downlink().values():
            assert rates == QueueRates(LEAST_RATE_KBPS, 20_000, lowest)

    def test_other_links_are_shared_by_promise_within_what_is_reservable(self) -> None:
        up = queue_rates(NETWORK, initial_state(INVENTORY))["ap1_2"]
        # The SLAs guarantee 5 and 1 Mbit/s.
        unit_kbps = 12_000 * INVENTORY.reservable_ratio / 6
        video_kbps, control_kbps = int(5 * unit_kbps), int(unit_kbps)
        assert up[VIDEO_QUEUE] == QueueRates(video_kbps, 12_000, PRIORITY[ELASTIC])
        assert up[CONTROL_QUEUE] == QueueRates(control_kbps, control_kbps, PRIORITY[REAL_TIME])

    def test_only_ports_with_a_rate_have_queues(self) -> None:
        rated = {p.interface for p in INVENTORY.ports if p.rate_kbps is not None}
        assert queue_rates(NETWORK, initial_state(INVENTORY)).keys() == rated

    def test_each_class_of_a_slice_has_a_reservation_of_its_own(self) -> None:
        document = two_cells()
        document["services"][1] = {**document["services"][1], "slice": "video"}
        inventory = planned_inventory(document)
        network = network_of(inventory)
        state = initial_state(inventory).reserved(
            "ap1", [reservation(1, ELASTIC, 5000, 9000), reservation(1, REAL_TIME, 1000, 1000)]
        )
        queues = queue_rates(network, state)["ap1_1"]
        assert (queues[5].min_kbps, queues[6].min_kbps) == (5000, 1000)

    def test_none_without_slicing(self) -> None:
        inventory = planned_inventory(two_cells(slicing=False))
        assert queue_rates(network_of(inventory), initial_state(inventory)) == {}


class TestAdmission:
    def test_sum_of_guarantees_is_bounded_by_the_reservable_share(self) -> None:
        cell = NETWORK.cells["ap1"]
        fits = reservation(1, ELASTIC, 18_000, 20_000)
        after = admitted(NETWORK, initial_state(INVENTORY), cell, [fits])
        assert headroom(NETWORK, after, cell).reserved_kbps == 18_000
        with pytest.raises(ReservationError, match="18001 kbit/s; 18000 of 20000"):
            admitted(NETWORK, after, cell, [fits.model_copy(update={"min_kbps": 18_001})])

    def test_unknown_pair_says_which_are_live(self) -> None:
        with pytest.raises(UnknownTargetError, match="slice 3.*live: 1/elastic, 2/real_time"):
            admitted(
                NETWORK,
                initial_state(INVENTORY),
                NETWORK.cells["ap1"],
                [reservation(3, ELASTIC, 1, 2)],
            )

    def test_guarantee_above_its_ceiling(self) -> None:
        with pytest.raises(ReservationError, match="min_kbps 5 must lie between 0 and max_kbps 4"):
            admitted(
                NETWORK,
                initial_state(INVENTORY),
                NETWORK.cells["ap1"],
                [reservation(1, ELASTIC, 5, 4)],
            )

    def test_diff_names_only_what_changes(self) -> None:
        before = initial_state(INVENTORY)
        kept = before.reservations["ap1"][2, REAL_TIME]
        after = before.reserved("ap1", [reservation(1, ELASTIC, 1000, 2000), kept])
        diff = queue_diff(NETWORK, NETWORK.cells["ap1"], before, after)
        assert diff.keys() == {"ap1_1"} and diff["ap1_1"].keys() == {"5"}
        assert diff["ap1_1"]["5"]["after"]["min_kbps"] == 1000


class TestRows:
    def test_row_and_intent_agree(self) -> None:
        row = queue_row(QueueRates(8000, 16000, 3))
        assert row == {
            "min-rate": "8000000",
            "max-rate": "16000000",
            "burst": "160000",
            "priority": "3",
        }
