"""Latency and loss of task services, cost of migrations, refused servers: pure parts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from controller.contracts.decisions import Action, DecisionRecord
from controller.guard import Basis, ServerView, TargetOrder, check_migrate
from tests.emulated.networks import two_cells
from tests.planned_network import planned_inventory
from tests.ric_inventory import ric_inventory
from tests.sample_evidence import T0_NS, decision, request
from topologies.results.services import migration_figures, service_figures
from topologies.services.image import PAGE_BYTES, Image
from topologies.services.instance_order import InstanceOrder

TASK = {
    "name": "assist",
    "slice_id": 1,
    "address": "10.1.200.1",
    "port": 5001,
    "protocol": "udp",
    "traffic_class": "elastic",
    "host": "edge1",
    "candidates": ["edge2"],
    "kind": "task",
    "state_bytes": 100_000,
}


def moved(at_s: float = 20.0) -> DecisionRecord:
    begun_ns = T0_NS + int(at_s * 1e9)
    return decision(
        at_s,
        action=Action.MIGRATE,
        target={"service": "assist"},
        parameters={"host": "edge2"},
        hops_ns={"guarded": begun_ns, "confirmed": begun_ns + 2_000_000_000},
        effect_detail={
            "source": "edge1",
            "target": "edge2",
            "downtime_ms": 30.0,
            "rounds": [{}, {}],
            "state_bytes": 100_000,
            "wire_bytes": 140_000,
        },
    )


def test_latency_and_loss_by_service_and_host() -> None:
    rows = [
        request(1, 4.0),
        request(2, 6.0),
        request(3, None),
        request(4, 40.0, host="edge2"),
        request(4, 9.0, service="other"),
    ]
    (figures,) = service_figures(
        {"rows": rows, "regressions": {"assist": 0}}, ric_inventory(services=[TASK])
    )
    assert (figures["requests"], figures["lost"]) == (4, 1)
    assert figures["latency_ms"]["p50"] == 6.0
    assert [h["requests"] for h in figures["by_host"]] == [2, 1]


def test_lost_requests_of_a_migration_are_those_sent_while_it_ran_and_a_second_after() -> None:
    rows = [request(19.9, None), request(21, None), request(22.9, None), request(23.1, None)]
    figures = migration_figures([moved()], {"rows": rows})
    assert figures["lost_requests"] == 2
    assert (figures["count"], figures["bytes_on_wire"]) == (1, 140_000)
    assert figures["downtime_ms"]["p50"] == 30.0


def test_a_request_dirties_few_pages_and_they_are_taken_once() -> None:
    image = Image(50 * PAGE_BYTES, sessions=4, pages_per_request=3)
    counter, digest = image.serve(2, request_id=1)
    assert counter == 1
    assert image.serve(2, request_id=1)[1] != digest, "the digest forgets what came before"
    assert 5 <= image.dirty_pages <= 8
    runs = list(image.take_dirty())
    assert sum(count for _, count in runs) >= 5
    assert image.dirty_pages == 0
    copy = Image(50 * PAGE_BYTES, sessions=4, pages_per_request=3)
    for first, count in runs:
        at = first * PAGE_BYTES
        copy.write(first, bytes(image.memory[at : at + count * PAGE_BYTES]))
    assert copy.digest() == image.digest()
    assert copy.served == 2


@pytest.mark.parametrize(
    ("host", "used_bytes", "rule"),
    [("edge2", 0, None), ("edge2", 50_001, "capacity"), ("edge1", 0, "no_change")],
)
def test_a_full_server_and_a_move_to_where_it_is_are_refused(
    host: str, used_bytes: int, rule: str | None
) -> None:
    server = ServerView(host, used_bytes, memory_bytes=150_000)
    basis, order = Basis(None, 1000, 0), TargetOrder(1, 1, None, None)
    rejection = check_migrate("assist", 100_000, "edge1", server, basis, order)
    assert (rejection.rule if rejection else None) == rule


def test_an_instance_starts_without_what_costs_its_start_most() -> None:
    """It starts in the middle of a run, on processors that forward packets."""
    words = "import sys, topologies.services.task_server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert not {"numpy", "pydantic", "yaml"} & set(done.stdout.split())


def test_an_instance_is_told_what_the_inventory_says() -> None:
    inventory = planned_inventory(two_cells())
    order = InstanceOrder.of(inventory, "stream", "cloud")
    assert InstanceOrder.read(order.written()) == order
    service = inventory.services[0]
    assert (order.address, order.port) == (service.address, service.port)
    assert inventory.hosts[order.host_index].name == "cloud"
    assert order.sessions == len(inventory.users)
