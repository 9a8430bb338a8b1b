"""Ports are looked at in the order of every path, and are created in the order that leads to it."""

from __future__ import annotations

import itertools

from controller.contracts.addressing import session_ip
from tests.emulated.networks import two_cells
from tests.pipeline.fake_network import FakeNetwork, ipv4
from tests.planned_network import planned_inventory
from topologies.polling import creation_batches, polling_order, stage

INVENTORY = planned_inventory(two_cells(), {"ue1": "ap1", "ue2": "ap2"})
ROLES = {s.name: s.role for s in INVENTORY.switches}
ENDS = {
    "ue1": session_ip(1, 0),
    "ue2": session_ip(1, 1),
    "edge1": next(s.address for s in INVENTORY.services if s.slice_id == 1),
}


def test_every_path_only_goes_to_ports_that_are_looked_at_later() -> None:
    net = FakeNetwork(INVENTORY)
    longest = 0
    for sender, receiver in itertools.permutations(ENDS, 2):
        journey = net.send(sender, ipv4(ENDS[sender], ENDS[receiver]))
        assert receiver in journey.delivered
        stages = [stage(port, ROLES) for port in journey.entered]
        assert stages == sorted(set(stages)), (sender, receiver, journey.path)
        longest = max(longest, len(stages))
    assert longest == 5, "between users of two cells"


def test_created_one_after_the_other_they_are_looked_at_by_stage() -> None:
    batches = creation_batches(INVENTORY.ports, INVENTORY.switches)
    created = [port for batch in batches for port in batch]
    assert sorted(p.interface for p in created) == sorted(p.interface for p in INVENTORY.ports)
    first = 1 + len(INVENTORY.switches)
    by_number = dict(enumerate(created, first))
    seen = [by_number[n] for n in polling_order(first + len(created)) if n >= first]
    stages = [stage(port, ROLES) for port in seen]
    assert stages == sorted(stages)
    assert all(len({stage(p, ROLES) for p in batch}) == 1 for batch in batches)


def test_no_port_is_forgotten() -> None:
    for count in (1, 2, 3, 8, 9, 40, 300):
        assert sorted(polling_order(count)) == list(range(count))
