"""What the kernel says of a port's queues, and a slice's queue made by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from controller.contracts.queue_tree import QueueRates, queue_row
from topologies.namespaces import run
from topologies.ovs import PrivateOvs


def class_figures(interface: str, queue_id: int) -> tuple[int, int]:
    """(packets sent, packets dropped) of a queue's class."""
    words = run(["tc", "-s", "class", "show", "dev", interface])
    found = re.search(
        rf"class htb 1:{queue_id + 1:x} .*\n Sent \d+ bytes (\d+) pkt \(dropped (\d+)", words
    )
    assert found is not None, words
    return int(found[1]), int(found[2])


def class_packets(interface: str, queue_id: int) -> int:
    return class_figures(interface, queue_id)[0]


def class_drops(interface: str, queue_id: int) -> int:
    return class_figures(interface, queue_id)[1]


def leaf_kind(interface: str, queue_id: int) -> str | None:
    words = run(["tc", "qdisc", "show", "dev", interface])
    found = re.search(rf"qdisc (\w+) \w+: parent 1:{queue_id + 1:x} ", words)
    return found[1] if found else None


@contextmanager
def extra_queue(
    ovs: PrivateOvs, interface: str, queue_id: int, rates: QueueRates
) -> Iterator[None]:
    """A slice's queue as the controller makes and removes it: by Queue rows alone."""
    columns = [f"other_config:{key}={value}" for key, value in queue_row(rates).items()]
    qos = ovs.vsctl(["get", "Port", interface, "qos"]).strip()
    ovs.vsctl(
        ["--id=@q", "create", "Queue", *columns, "--", "set", "QoS", qos, f"queues:{queue_id}=@q"]
    )
    try:
        yield
    finally:
        ovs.vsctl(["remove", "QoS", qos, "queues", str(queue_id)])
