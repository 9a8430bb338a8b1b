"""The flow table, and the counters' table and tally that follow from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.sample_inventory import sample_inventory, sample_scenario
from topologies.traffic.counters import WINDOW_NS, FlowCounters
from topologies.traffic.datagrams import Datagrams
from topologies.traffic.flows import flows_of
from topologies.traffic.leaks import UNKNOWN_SLICE, addresses_of, leak_program, slice_of_frame
from topologies.traffic.payload import HEADER_DTYPE, MAGIC
from topologies.traffic.samples import SampleRing
from topologies.traffic.tally import Tally

T0_NS = 1_700_000_000_000_000_000
FLOWS = flows_of(sample_scenario(), sample_inventory())


def test_flow_ids_are_indices_and_names_unique() -> None:
    assert [f.flow_id for f in FLOWS] == list(range(len(FLOWS)))
    assert len({f.name for f in FLOWS}) == len(FLOWS) == 7


def test_down_flow_goes_from_service_to_session() -> None:
    stream = FLOWS[0]
    assert (stream.kind, stream.slice_id, stream.l2_bytes) == ("paced", 1, 1242)
    assert (stream.sender.host, stream.sender.address, stream.sender.port) == (
        "edge1",
        "10.1.200.1",
        5001,
    )
    assert (stream.receiver.host, stream.receiver.address) == ("ue1", "10.1.1.1")


def test_probes_go_both_ways_between_the_same_ends() -> None:
    down, up = (f for f in FLOWS if f.kind == "probe" and f.ue_id == "ue2")
    assert (down.direction, up.direction) == ("down", "up")
    assert down.sender.address == up.receiver.address
    assert down.receiver.address == up.sender.address
    assert down.rate_pps == up.rate_pps == 100


def test_filler_is_a_ratio_of_the_bottleneck_capacity() -> None:
    scenario = sample_scenario(background={"rate_ratio": 1.25})
    filler = flows_of(scenario, sample_inventory())[-1]
    assert filler.demand is not None and filler.demand.model_dump()["mbps"] == 25
    assert (filler.sender.address, filler.receiver.address) == ("10.15.200.1", "10.15.1.1")
    assert (filler.slice_id, filler.cell_id, filler.sender.host) == (15, "ap1", "bg-src")


def test_no_two_flows_have_the_same_ends() -> None:
    ends = {(f.sender.address, f.sender.port, f.receiver.address, f.receiver.port) for f in FLOWS}
    assert len(ends) == len(FLOWS)


def test_no_background_no_filler() -> None:
    flows = flows_of(sample_scenario(background=None), sample_inventory())
    assert {f.kind for f in flows} == {"paced", "probe"}


@pytest.fixture
def counters(tmp_path: Path) -> FlowCounters:
    return FlowCounters.create(tmp_path / "flows.shm", [f.metadata() for f in FLOWS], 8)


def ids(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_counters_are_shared(counters: FlowCounters) -> None:
    other = FlowCounters.open(counters.path)
    counters.totals["sent_packets"][2] = 7
    counters.t0_ns = T0_NS
    assert other.totals["sent_packets"][2] == 7
    assert other.t0_ns == T0_NS
    assert other.flows[0]["name"] == "stream-ue1"


def test_open_refuses_another_file(tmp_path: Path) -> None:
    path = tmp_path / "flows.shm"
    path.write_bytes(bytes(5000))
    (tmp_path / "flows.shm.json").write_text("[]")
    with pytest.raises(ValueError, match="not a flow counter table"):
        FlowCounters.open(path)


def test_a_reused_slot_starts_from_zero(counters: FlowCounters) -> None:
    counters.add_to_windows("sent", ids(1), ids(3), ids(10), ids(1000))
    counters.add_to_windows("sent", ids(1), ids(3), ids(5), ids(500))
    assert counters.windows("sent", 3, 1)[0][1, 0] == 15
    counters.add_to_windows("sent", ids(1), ids(11), ids(2), ids(200))
    packets, l2_bytes = counters.windows("sent", 11, 1)
    assert (packets[1, 0], l2_bytes[1, 0]) == (2, 200)
    assert counters.windows("sent", 3, 1)[0][1, 0] == 0, "overwritten, and it says so"


def test_more_windows_than_the_ring_is_an_error(counters: FlowCounters) -> None:
    with pytest.raises(ValueError, match="ring keeps 8"):
        counters.windows("sent", 0, 9)


def batch(*packets: tuple[int, int, int, float]) -> Datagrams:
    """(socket index, flow id, sequence, sent at s); 200 B payload, 2 ms of delay."""
    header = np.zeros(len(packets), dtype=HEADER_DTYPE)
    header["magic"] = MAGIC
    header["flow_id"] = [p[1] for p in packets]
    header["slice_id"] = [FLOWS[p[1]].slice_id for p in packets]
    header["sequence"] = [p[2] for p in packets]
    header["sent_ns"] = [T0_NS + int(p[3] * 1e9) for p in packets]
    return Datagrams(
        socket_index=ids(*(p[0] for p in packets)),
        header=header,
        payload_bytes=np.full(len(packets), 200, dtype=np.int64),
        received_ns=header["sent_ns"].astype(np.int64) + 2_000_000,
    )


def test_a_packet_counts_in_the_window_it_was_sent(counters: FlowCounters) -> None:
    tally = Tally(counters, FLOWS)
    tally.start(T0_NS)
    late_ns = T0_NS + 2 * WINDOW_NS
    tally.add(batch((0, 0, 1, 0.2), (0, 0, 2, 0.999), (0, 0, 4, 1.0), (1, 1, 1, 1.5)), late_ns)
    packets, l2_bytes = counters.windows("received", 0, 2)
    assert packets[:2].tolist() == [[2, 1], [0, 1]]
    assert l2_bytes[0].tolist() == [2 * 242, 242]
    assert counters.totals["received_packets"][:2].tolist() == [3, 1]
    assert counters.totals["highest_seq"][:2].tolist() == [4, 1]
    assert counters.totals["owd_p95_ms"][0] == 2.0
    assert np.isnan(counters.totals["owd_p95_ms"][3])


def test_foreign_payload_is_not_counted_as_received(counters: FlowCounters) -> None:
    tally = Tally(counters, FLOWS)
    tally.start(T0_NS)
    other_slice = batch((0, 1, 1, 0.1))  # slice 2's packet out of slice 1's socket
    stale = batch((0, 0, 1, -5.0))
    tally.add(other_slice, T0_NS)
    tally.add(stale, T0_NS)
    assert counters.totals["wrong_slice"][0] == 1
    assert counters.totals["received_packets"].sum() == 0
    assert tally.strangers == 1


def test_ring_says_when_samples_are_overwritten() -> None:
    ring = SampleRing(capacity=4)
    for at in range(6):
        ring.add(ids(0), ids(at), ids(at * 100), ids(5))
    assert ring.between(200, 600).sequence.tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="overwritten"):
        ring.between(0, 600)


def test_leak_filter_knows_services_of_a_server() -> None:
    inventory = sample_inventory()
    edge = inventory.host("edge1")
    assert {a.ip for a in addresses_of(edge, inventory)} >= {"10.1.200.1", "10.2.200.2"}
    program = leak_program(addresses_of(edge, inventory))
    assert all(jump <= 255 for _, when, unless, _ in program for jump in (when, unless))


def test_slice_of_a_leaked_frame_is_its_sources() -> None:
    ipv4 = bytes(12) + b"\x08\x00" + bytes(12) + bytes([10, 3, 1, 1]) + bytes(20)
    assert slice_of_frame(ipv4) == 3
    assert slice_of_frame(bytes(12) + b"\x86\xdd" + bytes(40)) == UNKNOWN_SLICE
