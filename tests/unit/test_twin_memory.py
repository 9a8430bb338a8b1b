"""What a user's twin holds in memory, its whole history and everything kept beside it."""

from __future__ import annotations

import gc
import random
import tracemalloc
from types import MappingProxyType

import orjson

from controller.contracts.inventory import TwinConfig
from controller.contracts.twin_messages import UserReport
from controller.local.admission import LastReport
from controller.local.aggregation import sample_of
from controller.local.cell_windows import CellWindows
from controller.local.demand_tracks import KEPT_NS, DemandTracks
from controller.local.onnx_model import load_model
from controller.local.prediction import DEMAND, MOBILITY, Predictor
from controller.local.reaction import Observations
from controller.local.spending import Received
from controller.twins.level_one import UserTwin, merge_predictions, merge_report
from tests.sample_reports import PERIOD_MS, PERIOD_NS, encoded, sample_flow, sample_report

USERS = 40
MAX_BYTES = 16_000


def report(user: int, number: int) -> bytes:
    """Of a moving user with four flows, as noisy as measurements are."""
    noise = random.Random(1000 * user + number).random
    services = [("video", False), ("download", False), ("probe", False), ("probe", True)]
    flows = [
        sample_flow(
            service=service,
            up=up,
            demand_kbps=round(900 + 61 * noise(), 3),
            goodput_kbps=round(840 + 57 * noise(), 3),
            loss_ratio=round(0.01 * noise(), 6),
            owd_p95_ms=None if up else round(3 + 11 * noise(), 3),
        )
        for service, up in services
    ]
    made = sample_report(
        number,
        sequence=number,
        ue_id=f"ue{user}",
        measured_at_ns=(number + 1) * PERIOD_NS + round(1e6 * noise()),
        rsrp_dbm={f"ap{i}": round(-80 - i - 5 * noise(), 2) for i in range(3)},
        position_m=(round(3.2 * number + noise(), 3), round(10 - noise(), 3)),
        speed_mps=round(6 + noise(), 3),
        flows=flows,
    )
    return encoded(made)


class Edge:
    """Everything a local controller keeps of its users."""

    def __init__(self) -> None:
        self.predictor = Predictor(load_model(MOBILITY), load_model(DEMAND))
        self.windows = CellWindows(["ap1"], PERIOD_MS, 0)
        self.observations = Observations()
        self.tracks = DemandTracks()
        self.received = Received()
        self.last_reports: dict[str, LastReport] = {}
        self.twins: dict[str, UserTwin] = {}

    def take(self, payload: bytes) -> None:
        parsed = UserReport.model_validate_json(payload, strict=True)
        ue_id, at_ns = parsed.ue_id, parsed.measured_at_ns
        self.windows.attach(ue_id, "ap1", at_ns)
        sample = sample_of(parsed, [1])
        self.windows.add(ue_id, sample, at_ns)
        self.tracks.observe(ue_id, sample, parsed.period_ms * 1_000_000)
        self.received.add(ue_id, len(payload))
        self.last_reports[ue_id] = LastReport(parsed.sequence, at_ns)
        self.observations.accept(ue_id, at_ns)
        length = TwinConfig().history_length
        self.twins[ue_id] = merge_report(self.twins.get(ue_id), parsed, at_ns, length)
        self.predictor.observe(parsed)

    def forecast(self, now_ns: int) -> None:
        capacity_kbps = dict.fromkeys(self.twins, 9000.0)
        for ue_id, predicted in self.predictor.predict(capacity_kbps, now_ns):
            self.twins[ue_id] = merge_predictions(self.twins[ue_id], MappingProxyType(predicted))


def grown(users: range, edge: Edge) -> None:
    full = max(2 * TwinConfig().history_length, KEPT_NS // PERIOD_NS)
    for number in range(1, full):
        for user in users:
            edge.take(report(user, number))
        edge.forecast((number + 1) * PERIOD_NS)


def test_a_twin_with_its_default_history_and_forecasts_is_small() -> None:
    edge = Edge()
    grown(range(1), edge)  # what users share
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        edge_of_many = Edge()
        gc.collect()
        empty, _ = tracemalloc.get_traced_memory()
        grown(range(1, 1 + USERS), edge_of_many)
        gc.collect()
        full, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(edge_of_many.twins) == USERS and empty >= before
    held = edge_of_many.twins["ue1"]
    assert len(held.history) == TwinConfig().history_length
    assert held.predicted and orjson.loads(next(iter(held.history)))
    assert (full - empty) / USERS <= MAX_BYTES, (full - empty) / USERS
