"""The life of slices as pure functions: what is planned, what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from controller.contracts.addressing import session_ip
from controller.contracts.inventory import Inventory
from controller.contracts.live_slices import (
    current_inventory,
    documents,
    inventory_with,
    live_slices,
    parse,
    remember,
)
from controller.contracts.run_folder import RunFolder
from controller.contracts.slices import USABLE_SLICE_IDS, TrafficClass
from controller.errors import (
    AdmissionError,
    SliceConflictError,
    SliceError,
    UnknownTargetError,
)
from controller.network_diff import Side, network_diff
from controller.network_state import ChainedFunction, NetworkState, initial_state
from controller.network_view import network_at
from controller.queues import queue_rates
from controller.reservations import of_living
from controller.rules import compile_network
from controller.slice_life import Planned, applied
from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory
from topologies.sessions import host_changes

INVENTORY: Inventory = planned_inventory(two_cells())
STATE = initial_state(INVENTORY)


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "name": "gaming",
        "s_nssai": {"sst": 1, "sd": "0000aa"},
        "sla": {"guaranteed_mbps": 1},
        "users": ["ue1"],
        **changes,
    }


def service(name: str, host: str) -> dict[str, Any]:
    return {"name": name, "traffic_class": "elastic", "host": host, "port": 6000}


def create(state: NetworkState = STATE, **changes: Any) -> Planned:
    return applied(INVENTORY, state, {"kind": "slice.create", "slice": spec(**changes)})


def update(state: NetworkState, slice_id: int = 3, **changes: Any) -> Planned:
    document = {"kind": "slice.update", "slice_id": slice_id, "changes": changes}
    return applied(INVENTORY, state, document)


def minima(state: NetworkState, slice_id: int = 3) -> dict[str, int]:
    return {
        cell_id: r.min_kbps
        for cell_id, held in state.reservations.items()
        for key, r in held.items()
        if key[0] == slice_id
    }


class TestCreate:
    def test_lowest_free_id_session_and_guarantee_everywhere(self) -> None:
        planned = create()
        assert planned.slice_id == 3
        sessions = planned.network.users["ue1"].sessions
        assert [s.ip for s in sessions][-1] == session_ip(3, 0)
        assert minima(planned.state) == {"ap1": 1000, "ap2": 1000}

    def test_the_first_session_stays_the_first(self) -> None:
        before = [s.ip for s in INVENTORY.user("ue1").sessions]
        assert [s.ip for s in create().network.users["ue1"].sessions][:2] == before

    def test_nothing_of_others_changes_but_shares_of_links_without_reservations(self) -> None:
        planned = create()
        before = Side.of(network_at(INVENTORY, STATE), STATE)
        diff = network_diff(before, Side.of(planned.network, planned.state))
        for changes in diff["flows"].values():
            assert set(changes) == {"flows_added"}
        for changes in diff["meters"].values():
            assert set(changes) == {"meters_added"}
        changed = {
            name: {q for q, c in queues.items() if c["before"]}
            for name, queues in diff["queues"].items()
        }
        assert changed["ap1_1"] == changed["ap2_1"] == set()

    def test_real_time_is_shaped_to_its_guarantee(self) -> None:
        planned = create(default_class="real_time")
        held = planned.state.reservations["ap1"][3, TrafficClass.REAL_TIME]
        assert (held.min_kbps, held.max_kbps) == (1000, 1000)

    def test_what_shares_a_queue_reserves_nothing(self) -> None:
        assert minima(create(default_class="best_effort").state) == {}
        wish = [{"access_point": "ap1", "min_mbps": 1}]
        with pytest.raises(SliceError, match="one queue for all slices"):
            create(default_class="control", reservations=wish)

    def test_created_and_terminated_is_as_before(self) -> None:
        ended = applied(INVENTORY, create().state, {"kind": "slice.terminate", "slice_id": 3})
        assert ended.state.slices == STATE.slices
        assert minima(ended.state, 1) == minima(STATE, 1) and not minima(ended.state)
        before = network_at(INVENTORY, STATE)
        assert compile_network(ended.network, ended.state) == compile_network(before, STATE)
        assert queue_rates(ended.network, ended.state) == queue_rates(before, STATE)

    def test_what_passes_a_function_cannot_end_under_it(self) -> None:
        state = STATE.chained(ChainedFunction("gate", "stream", "edge1"))
        with pytest.raises(SliceConflictError, match="network function gate; remove that first"):
            applied(INVENTORY, state, {"kind": "slice.terminate", "slice_id": 1})

    def test_more_than_code_points(self) -> None:
        state = STATE
        free = [i for i in USABLE_SLICE_IDS if i not in STATE.slices]
        assert 12 not in free and 15 not in free and len(USABLE_SLICE_IDS) == 13
        for number in free:
            named = {"name": f"s{number}", "s_nssai": {"sst": 9, "sd": f"{number:06x}"}}
            state = create(state, reservations=[], **named).state
        with pytest.raises(SliceConflictError, match="all 13 slices .* are in use: video, control"):
            create(state, reservations=[])

    @pytest.mark.parametrize(
        ("changes", "error", "words"),
        [
            ({"name": "video"}, SliceConflictError, "named video"),
            ({"s_nssai": {"sst": 1}}, SliceConflictError, "S-NSSAI 1-ffffff is slice video's"),
            ({"slice_id": 1}, SliceConflictError, r"addresses 10\.1\.0\.0/16\) is video's"),
            ({"slice_id": 15}, SliceError, "reserved"),
            ({"slice_id": 200}, SliceError, "no code points"),
            ({"users": ["ue7"]}, UnknownTargetError, "unknown user 'ue7'; known: ue1, ue2"),
            ({"cells": ["ap7"]}, UnknownTargetError, "unknown cell 'ap7'; known: ap1, ap2"),
            ({"sla": {"guaranteed_mbps": float("inf")}}, SliceError, "finite"),
            ({"sla": {"guaranteed_mbps": -2}}, SliceError, "sla.guaranteed_mbps"),
            ({"user_max_mbps": 0}, SliceError, "user_max_mbps"),
            ({"colour": "red"}, SliceError, "colour"),
            (
                {"services": [service("stream", "edge1")]},
                SliceConflictError,
                "service named stream",
            ),
            (
                {"services": [service("s", "ue1")]},
                UnknownTargetError,
                "unknown server 'ue1'; servers: edge1, cloud",
            ),
            (
                {"reservations": [{"access_point": "ap1", "min_mbps": 2, "max_mbps": 1}]},
                SliceError,
                "min_mbps 2 is above max_mbps 1",
            ),
            (
                {"cells": ["ap2"], "reservations": [{"access_point": "ap1", "min_mbps": 2}]},
                SliceError,
                "does not cover ap1",
            ),
        ],
    )  # fmt: skip
    def test_refusals_say_what_and_what_is_right(
        self, changes: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            create(**changes)


class TestAdmission:
    def test_refused_with_the_numbers_of_the_link_that_is_full(self) -> None:
        words = (
            "ap1: asked 8.5 Mbit/s, 8.0 left of 18.0 reservable, promised: video 8.0, control 2.0"
        )
        with pytest.raises(AdmissionError) as refused:
            create(reservations=[{"access_point": "ap1", "min_mbps": 8.5}])
        assert str(refused.value) == words
        assert [room.fits for room in refused.value.rooms if room.link == "ap1"] == [False]

    def test_what_is_left_fits_exactly(self) -> None:
        planned = create(reservations=[{"access_point": "ap1", "min_mbps": 8}])
        ap1 = next(room for room in planned.rooms if room.link == "ap1")
        assert (ap1.asked_kbps, ap1.left_kbps, ap1.fits) == (8000, 8000, True)

    def test_backhaul_must_carry_the_promise_in_its_share(self) -> None:
        """ap2's backhaul has 40 Mbit/s, 36 reservable; the SLAs guarantee 5, 1 and 10 of 16."""
        wish = {"sla": {"guaranteed_mbps": 10}, "cells": ["ap2"]}
        fits = create(**wish, reservations=[{"access_point": "ap2", "min_mbps": 22}])
        assert [room.link for room in fits.rooms] == ["ap2", "core-ap2"]
        with pytest.raises(AdmissionError, match="core-ap2: asked 23.0 Mbit/s, 22.5 left"):
            create(**wish, reservations=[{"access_point": "ap2", "min_mbps": 23}])

    def test_a_newcomer_may_not_push_an_earlier_promise_out_of_its_share(self) -> None:
        first = {"sla": {"guaranteed_mbps": 10}, "cells": ["ap2"]}
        held = create(**first, reservations=[{"access_point": "ap2", "min_mbps": 22}]).state
        other = {"name": "other", "s_nssai": {"sst": 7}, "cells": ["ap2"], "reservations": []}
        with pytest.raises(AdmissionError, match="core-ap2: asked 22.0 Mbit/s, 1[0-9.]+ left"):
            create(held, **other, sla={"guaranteed_mbps": 15})


class TestChange:
    STATE = create().state

    def test_a_new_guarantee_resizes_and_others_stay(self) -> None:
        planned = update(self.STATE, sla={"guaranteed_mbps": 2.5})
        assert minima(planned.state) == {"ap1": 2500, "ap2": 2500}
        assert minima(planned.state, 1) == minima(self.STATE, 1)

    def test_only_the_sla_s_bounds_change_no_reservation(self) -> None:
        shifted = update(
            self.STATE, reservations=[{"access_point": "ap1", "min_mbps": 3, "max_mbps": 4}]
        ).state
        bounded = update(shifted, sla={"guaranteed_mbps": 1, "loss_ratio": 0.1}).state
        assert minima(bounded) == minima(shifted) == {"ap1": 3000, "ap2": 1000}

    def test_members(self) -> None:
        planned = update(self.STATE, add_users=["ue2"], remove_users=["ue1"])
        assert planned.state.slices[3].users == ["ue2"]
        assert [s.slice_id for s in planned.network.users["ue1"].sessions] == [1, 2]
        with pytest.raises(SliceError, match="ue2 has no session in slice gaming"):
            update(self.STATE, remove_users=["ue2"])

    def test_coverage_comes_and_goes_with_its_reservation(self) -> None:
        off = {"kind": "slice.uncover", "slice_id": 3, "cell_id": "ap1"}
        planned = applied(INVENTORY, self.STATE, off)
        assert minima(planned.state) == {"ap2": 1000}
        assert not planned.network.covers("ap1", 3)
        with pytest.raises(SliceConflictError, match="does not cover ap1"):
            applied(INVENTORY, planned.state, off)
        with pytest.raises(SliceError, match="last cell of slice gaming; terminate"):
            applied(INVENTORY, planned.state, {**off, "cell_id": "ap2"})
        on = {"kind": "slice.cover", "slice_id": 3, "cell_id": "ap1", "min_mbps": 0.5}
        again = applied(INVENTORY, planned.state, on)
        assert minima(again.state) == {"ap2": 1000, "ap1": 500}
        with pytest.raises(SliceConflictError, match="covers ap1 already"):
            applied(INVENTORY, again.state, on)

    def test_terms_can_be_changed_not_taken_away(self) -> None:
        with pytest.raises(SliceError, match="not taken away"):
            update(self.STATE, sla=None)

    @pytest.mark.parametrize("slice_id", [0, 12, 15])
    def test_infrastructure_is_nobody_s_to_change(self, slice_id: int) -> None:
        with pytest.raises(SliceError, match="infrastructure"):
            update(self.STATE, slice_id, sla={"guaranteed_mbps": 1})


class TestLiveSlices:
    def test_the_scenario_s_slices_change_nothing(self) -> None:
        assert inventory_with(INVENTORY, live_slices(INVENTORY)) == INVENTORY

    def test_documents_are_plain_json_and_come_back(self) -> None:
        live = list(create().state.slices.values())
        assert parse(orjson.loads(orjson.dumps(documents(live)))) == live

    def test_from_any_inventory_of_the_run_the_same(self) -> None:
        now = create().network.inventory
        ended = inventory_with(now, live_slices(INVENTORY))
        assert ended == INVENTORY
        assert inventory_with(INVENTORY, live_slices(now)) == now

    def test_hosts_that_gain_and_lose_addresses(self) -> None:
        after = create(services=[service("play", "cloud")]).network.inventory
        come = {c.host.name: c.ip_batch() for c in host_changes(INVENTORY, after)}
        assert set(come) == {"ue1", "cloud"}
        assert come["ue1"].splitlines() == [
            "addr add 10.3.1.1/32 dev ue1-eth0",
            "addr add fd48:6f6c:3::1:1/128 dev ue1-eth0 nodad",
            "route replace 10.3.0.0/16 via 10.255.255.254 dev ue1-eth0 onlink src 10.3.1.1",
            "route replace fd48:6f6c:3::/48 via fe80::1 dev ue1-eth0 src fd48:6f6c:3::1:1",
        ]
        go = {c.host.name: c.ip_batch() for c in host_changes(after, INVENTORY)}
        assert go["cloud"].splitlines() == [
            "addr del 10.3.200.1/32 dev cloud-eth0",
            "addr del fd48:6f6c:3::200:1/128 dev cloud-eth0",
            "route del fd48:6f6c:3::/48 dev cloud-eth0",
        ]


def test_other_intents_go_through_the_same_function() -> None:
    held = {"slice_id": 1, "traffic_class": "elastic", "min_kbps": 3000, "max_kbps": 5000}
    planned = applied(
        INVENTORY, STATE, {"kind": "reserve", "cell_id": "ap1", "reservations": [held]}
    )
    assert minima(planned.state, 1)["ap1"] == 3000
    moved = applied(INVENTORY, STATE, {"kind": "attach", "ue_id": "ue1", "cell_id": "ap2"})
    assert moved.state.serving_cell("ue1") == "ap2"


def test_a_state_holds_nothing_for_slices_that_ended() -> None:
    """A journal may still tell of them."""
    both = create(default_class="elastic").state
    assert minima(both) and of_living(network_at(INVENTORY, both), both) == both
    held = of_living(network_at(INVENTORY, STATE), both).reservations
    assert {cell: kept for cell, kept in held.items() if kept} == STATE.reservations


@pytest.mark.parametrize("damage", [b"", b"[{", b'{"slice": 1}'])
def test_of_a_damaged_file_the_one_before_counts(tmp_path: Path, damage: bytes) -> None:
    run = RunFolder(tmp_path)
    run.inventory.write_text(INVENTORY.model_dump_json())
    first = list(create().state.slices.values())
    for live in (first, list(STATE.slices.values())):
        remember(run, live)
    assert [s.name for s in current_inventory(run).slices] == ["video", "control"]
    run.live_slices.write_bytes(damage)
    assert [s.name for s in current_inventory(run).slices] == ["video", "control", "gaming"]
