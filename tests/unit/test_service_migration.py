"""service-migration: what its model reads, when and where its strategies move a service."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import FEATURES, Track, features, is_complete, observed, usual_s
from holon_xapp import PredictedPlace, SettingsError, UserEvent, load_model
from network import Service, network_of, services_of
from strategies import (
    STRATEGIES,
    Policy,
    Residence,
    Scene,
    always,
    forecast,
    nearest,
    never,
)

from models.mobility_forecast.evaluate import FOLDER as MOBILITY
from models.mobility_forecast.evaluate import onnx_forecast
from models.residence_forecast.dataset import seen_of
from models.residence_forecast.features import Seen
from models.residence_forecast.features import features as features_in_training
from models.residence_forecast.shape import FEATURES as SLOTS
from models.residence_forecast.shape import HORIZONS_S, SAMPLE_PERIOD_S
from models.residence_forecast.worlds import Drive, drives, rsrp, served_by

CELLS = {"west": (-150.0, 0.0), "east": (150.0, 0.0)}
RESIDENCE = Path(__file__).resolve().parents[2] / "models" / "residence_forecast"


def documents() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two cells with an edge each, 12 ms apart, a cloud beyond the core."""
    cells = [
        {"cell_id": name, "edge": f"edge-{name}", "position_m": list(place)}
        for name, place in CELLS.items()
    ]
    ways = [("west", "core", 6.0), ("east", "core", 6.0), ("core", "cloud", 12.0)]
    ways += [("west", "edge-west", 0.0), ("east", "edge-east", 0.0)]
    ways += [("west", "air", 0.0), ("east", "air", 0.0)]
    topology = {
        "switches": [{"name": n, "role": r} for n, r in (("air", "air"), ("core", "core"))],
        "hosts": [
            {"name": "edge-west", "kind": "edge"},
            {"name": "edge-east", "kind": "edge"},
            {"name": "cloud", "kind": "cloud"},
            {"name": "car", "kind": "ue"},
        ],
        "links": [{"from": a, "to": b, "delay_ms": d} for a, b, d in ways],
    }
    return cells, topology


NETWORK = network_of(*documents())
SERVICE = Service(
    "assist", "edge-west", ("edge-west", "edge-east", "cloud"), ("car",), 1_500_000, 6
)
POLICY = Policy()


def event(cell_id: str = "west", x_m: float = 0.0, version: int = 1) -> UserEvent:
    return UserEvent("car", version, 10**9, 10**9, cell_id, {}, (x_m, 0.0), 24.0, (), {})


def scene(until_s: float, stay_s: float, cell_id: str = "west", **changes: Any) -> Scene:
    """A car that will come to the east so soon for so long; it stays in the west long enough."""
    spread = (0.8, 1.0, 1.2)
    expected = {
        ("car", "east"): Residence(_times(spread, until_s), _times(spread, stay_s)),
        ("car", "west"): Residence((0.0, 0.0, 0.0), _times(spread, max(until_s, 3.0))),
    }
    return replace(Scene(NETWORK, SERVICE, [event(cell_id)], expected), **changes)


def _times(spread: tuple[float, float, float], value_s: float) -> tuple[float, float, float]:
    low, middle, high = (factor * value_s for factor in spread)
    return low, middle, high


def test_ways_are_the_quickest_and_none_leads_over_the_air() -> None:
    assert NETWORK.rtt_ms["west", "edge-west"] == 0
    assert NETWORK.rtt_ms["west", "edge-east"] == 24
    assert NETWORK.rtt_ms["east", "cloud"] == 36


def test_only_task_services_that_somebody_asks_and_that_can_move_count() -> None:
    document = {"name": "a", "kind": "task", "host": "x", "candidates": ["x", "y"], "users": ["u"]}
    document |= {"state_bytes": 1, "transfer_mbps": None}
    others = [{"kind": "flow"}, {"users": []}, {"candidates": ["x"]}]
    assert list(services_of([document | o for o in others])) == []
    assert list(services_of([document])) == ["a"]


# -- strategies ----------------------------------------------------------------------------------


def test_it_waits_until_the_copy_takes_as_long_as_the_handover() -> None:
    copy_s = POLICY.copy_s(SERVICE)
    assert forecast(POLICY, scene(until_s=copy_s + 3, stay_s=20)) is None
    move = forecast(POLICY, scene(until_s=copy_s + 0.2, stay_s=20))
    assert move is not None and move.host == "edge-east"
    assert move.ahead == ("car", "edge-east"), "its twin goes ahead of the same handover"


def test_how_long_its_newest_migration_took_is_believed() -> None:
    slow = scene(until_s=8.0, stay_s=20, service=replace(SERVICE, took_s=8.0))
    assert forecast(POLICY, slow) is not None
    assert forecast(POLICY, scene(until_s=8.0, stay_s=20)) is None


def test_a_short_look_into_the_other_cell_is_not_worth_the_bytes() -> None:
    due_s = POLICY.copy_s(SERVICE)
    assert forecast(POLICY, scene(until_s=due_s, stay_s=3.0)) is None
    assert forecast(POLICY, scene(until_s=due_s, stay_s=15.0)) is not None
    free = replace(POLICY, cost_ms_per_mbps=0)
    assert forecast(free, scene(until_s=due_s, stay_s=3.0)) is not None


def test_a_car_that_is_there_already_is_followed_when_it_stays_long_enough() -> None:
    here = scene(until_s=0.0, stay_s=15.0, cell_id="east")
    move = forecast(POLICY, here)
    assert move is not None and move.host == "edge-east" and move.ahead is None
    assert forecast(POLICY, scene(until_s=0.0, stay_s=2.0, cell_id="east")) is None


def test_a_service_goes_home_though_one_stay_there_does_not_pay() -> None:
    """Its car is in the east for ten seconds a round and three in the west; the copy takes six."""
    slow = replace(SERVICE, took_s=6.0)
    strange = scene(until_s=0.0, stay_s=9.5, cell_id="east", service=slow)
    assert forecast(POLICY, strange) is None, "its ways are not known"

    def rounds(east_s: float, west_s: float) -> Scene:
        east, west = (strange.residences["car", c] for c in ("east", "west"))
        usual = {
            ("car", "east"): replace(east, usual_s=east_s),
            ("car", "west"): replace(west, usual_s=west_s),
        }
        return replace(strange, residences=usual)

    assert forecast(POLICY, rounds(10.0, 3.0)) is not None
    assert forecast(POLICY, rounds(3.0, 10.0)) is None


def test_users_that_stay_behind_weigh_against_a_move() -> None:
    service = replace(SERVICE, users=("car", "phone", "robot"))
    others = [replace(event("west"), ue_id=u) for u in ("phone", "robot")]
    base = scene(until_s=2.0, stay_s=20.0)
    staying = Residence((20.0, 29.5, 30.0), (20.0, 29.5, 30.0))
    away = Residence((10.0, 10.0, 10.0), (1.0, 2.0, 3.0))
    expected = {
        **base.residences,
        **{(u.ue_id, "west"): staying for u in others},
        **{(u.ue_id, "east"): away for u in others},
    }
    crowded = replace(base, service=service, users=[*base.users, *others], residences=expected)
    assert forecast(POLICY, base) is not None
    assert forecast(POLICY, crowded) is None


def test_the_baselines_do_what_their_names_say() -> None:
    east = scene(until_s=0.0, stay_s=1.0, cell_id="east", users=[event("east", x_m=-5.0)])
    west = replace(east, users=[event("west", x_m=5.0)])
    assert [s(POLICY, east) for s in (never,)] == [None]
    moved = always(POLICY, east)
    assert moved is not None and moved.host == "edge-east"
    assert always(POLICY, west) is None, "not handed over, not moved"
    assert nearest(POLICY, east) is None, "the west is still nearer, by a metre"
    nearer = nearest(POLICY, west)
    assert nearer is not None and nearer.host == "edge-east"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"cost": 1}, "unknown setting 'cost'"),
        ({"lead_s": -1}, "lead_s is -1.0"),
        ({"lead_s": "soon"}, "lead_s is 'soon'"),
        ({"fastest_mbps": 0}, "fastest_mbps"),
    ],
)
def test_a_wrong_setting_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Policy.from_config(config)


# -- what the model reads --------------------------------------------------------------------------


def events_of(seen: Seen, names: list[str]) -> list[UserEvent]:
    """One a report, forecasts included, as the stream would bring them."""
    return [
        UserEvent(
            ue_id="car",
            version=at + 1,
            changed_at_ns=round(at * SAMPLE_PERIOD_S * 1e9),
            forecast_at_ns=round(at * SAMPLE_PERIOD_S * 1e9),
            cell_id=names[seen.serving[at]],
            rsrp_dbm=dict(zip(names, seen.rsrp_dbm[at], strict=True)),
            position_m=(float(seen.position_m[at, 0]), float(seen.position_m[at, 1])),
            speed_mps=float(seen.speed_mps[at]),
            places=tuple(
                PredictedPlace(h, (float(p[0]), float(p[1])), float(r))
                for h, p, r in zip(HORIZONS_S, seen.places_m[at], seen.radius_m[at], strict=True)
            ),
            twin={},
        )
        for at in range(len(seen.serving))
    ]


def test_the_xapp_computes_what_training_computed() -> None:
    assert len(SLOTS) == FEATURES
    mobility = onnx_forecast(MOBILITY / "model.onnx")
    for way in drives(np.random.default_rng(5), 4):
        seen = seen_of(way, way.track_m, mobility)
        table = features_in_training(seen)
        names = [f"cell{i}" for i in range(len(way.cells_m))]
        places = {n: (float(c[0]), float(c[1])) for n, c in zip(names, way.cells_m, strict=True)}
        track = Track()
        for at, seen_now in enumerate(events_of(seen, names)):
            track = observed(track, seen_now)
            assert is_complete(seen_now, names, places)
            found = features(track, seen_now, names, places)
            assert np.allclose(found, table[at], atol=1e-4), f"report {at}"


def test_a_twin_that_shows_too_little_is_not_forecast() -> None:
    complete = replace(
        event(), rsrp_dbm={"west": -80.0, "east": -90.0},
        places=tuple(PredictedPlace(h, (0.0, 0.0), 1.0) for h in HORIZONS_S),
    )  # fmt: skip
    assert is_complete(complete, list(CELLS), CELLS)
    for missing in (
        {"position_m": None}, {"speed_mps": None}, {"places": ()}, {"forecast_at_ns": 5},
        {"rsrp_dbm": {"west": -80.0}},
    ):  # fmt: skip
        assert not is_complete(replace(complete, **missing), list(CELLS), CELLS)  # type: ignore[arg-type]


# -- in a closed loop on simulated drives ----------------------------------------------------


@dataclass
class Ledger:
    """A strategy's costs: latency summed over reports, and moves."""

    latency_ms: float = 0.0
    reports: int = 0
    moves: int = 0

    def cost_ms(self, policy: Policy, service: Service) -> float:
        bytes_ms = policy.move_cost_ms_s(service) * self.moves
        return (self.latency_ms + bytes_ms / SAMPLE_PERIOD_S) / self.reports


def driven(way: Drive, strategy: str) -> Ledger:
    """A service of one car under a strategy: moves take `copy_s`, latency is the way's."""
    seen = seen_of(way, way.track_m, onnx_forecast(MOBILITY / "model.onnx"))
    model, names = load_model(RESIDENCE), list(CELLS)
    ledger, track = Ledger(), Track()
    host = NETWORK.edge_of(names[seen.serving[0]])
    arriving: tuple[int, str] | None = None
    for at, now in enumerate(events_of(seen, names)):
        if arriving is not None and at >= arriving[0]:
            host, arriving = arriving[1], None
        track = observed(track, now)
        ledger.latency_ms += NETWORK.rtt_ms[names[seen.serving[at]], host]
        ledger.reports += 1
        if arriving is not None:
            continue
        until, stay = model(features=features(track, now, names, CELLS))
        expected = {
            ("car", n): Residence(
                _three(10 * until[row]), _three(20 * stay[row]), usual_s(track, n)
            )
            for row, n in enumerate(names)
        }
        here = Scene(NETWORK, replace(SERVICE, host=host), [now], expected)
        if (move := STRATEGIES[strategy](POLICY, here)) is not None:
            ledger.moves += 1
            arriving = at + math.ceil(POLICY.copy_s(SERVICE) / SAMPLE_PERIOD_S), move.host
    return ledger


def _three(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = (float(v) for v in values)
    return low, middle, high


def shuttle(west_m: float, east_m: float, speed_mps: float = 24.0, seconds: float = 120.0) -> Drive:
    """To and fro on a straight way."""
    span_m = east_m - west_m
    way_m = np.arange(0.0, seconds, SAMPLE_PERIOD_S) * speed_mps % (2 * span_m)
    x_m = west_m + np.where(way_m < span_m, way_m, 2 * span_m - way_m)
    track_m = np.stack([x_m, np.full_like(x_m, 12.0)], axis=1)
    cells_m = np.array(list(CELLS.values()))
    rsrp_dbm = rsrp(cells_m, track_m, np.full(2, 33.0))
    return Drive(cells_m, track_m, rsrp_dbm, served_by(rsrp_dbm, 1.0, 160))


def test_the_forecast_costs_less_than_every_baseline_on_both_kinds_of_car() -> None:
    commuter, shuttler = shuttle(-180.0, 180.0), shuttle(-120.0, 38.0)
    total = {
        name: sum(driven(w, name).cost_ms(POLICY, SERVICE) for w in (commuter, shuttler))
        for name in STRATEGIES
    }
    assert min(total, key=lambda name: total[name]) == "forecast", total
    assert driven(shuttler, "forecast").moves < driven(shuttler, "always").moves
    assert driven(commuter, "forecast").latency_ms < 0.5 * driven(commuter, "always").latency_ms
