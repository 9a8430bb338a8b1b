"""TCP flows: an iperf3 server at the receiving host, a client at the sending one.

`python -m topologies.traffic.iperf ARGUMENTS` becomes `iperf3 ARGUMENTS` (exec, so the
supervisor's pid is iperf3's own). Both ends write JSON when they end: goodput is the
receiving end's, retransmissions and round-trip times the sending end's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topologies.traffic.flows import Flow

MAX_SEGMENT_BYTES = 1448
FRAME_OF_SEGMENT_BYTES = 1514
BLOCK_BYTES = 8192
"""A paced client sends block by block: with iperf3's 128 KiB, 0.7 Mbit/s is a burst each 1.5 s."""
_FOREVER_S = 86_400


@dataclass(frozen=True)
class TcpResult:
    """One flow in the measured window; `error` says why figures are missing."""

    flow_id: int
    goodput_mbps: float | None
    retransmits: int | None
    rtt_mean_ms: float | None
    error: str = ""


def server_arguments(flow: Flow, log: Path) -> list[str]:
    """Receives one test at the flow's receiving address and ends."""
    receiver = flow.receiver
    return [
        *("--server", "--one-off", "--bind", receiver.address, "--port", str(port_of(flow))),
        *("--interval", "1", "--json", "--logfile", str(log)),
    ]


def client_arguments(flow: Flow, log: Path) -> list[str]:
    """Sends until it is ended, at most at the demand's highest rate (given as L2)."""
    if flow.demand is None:
        raise ValueError(f"flow {flow.name} has no demand")
    cap_mbps = getattr(flow.demand, "high_mbps", None) or getattr(flow.demand, "mbps", None)
    if cap_mbps is None:
        raise ValueError(f"flow {flow.name}: a demand without a rate cannot be a cap")
    payload_bps = round(cap_mbps * 1e6 * MAX_SEGMENT_BYTES / FRAME_OF_SEGMENT_BYTES)
    return [
        *("--client", flow.receiver.address, "--bind", flow.sender.address),
        *("--port", str(port_of(flow)), "--bitrate", str(payload_bps)),
        *("--set-mss", str(MAX_SEGMENT_BYTES), "--length", str(BLOCK_BYTES)),
        *("--time", str(_FOREVER_S)),
        *("--interval", "1", "--json", "--logfile", str(log)),
    ]


def port_of(flow: Flow) -> int:
    """TCP port of the flow's server; one each, because iperf3 serves one test at a time."""
    return 20_000 + flow.flow_id


def result_of(
    flow_id: int,
    server_log: Path,
    client_log: Path,
    started_s: float,
    since_s: float,
    until_s: float,
) -> TcpResult:
    """Figures between two CLOCK_REALTIME seconds of a client started at `started_s`."""
    try:
        received = _intervals(server_log, started_s, since_s, until_s)
        sent = _intervals(client_log, started_s, since_s, until_s)
    except (OSError, ValueError, KeyError) as error:
        return TcpResult(flow_id, None, None, None, f"{type(error).__name__}: {error}")
    if not received or not sent:
        return TcpResult(flow_id, None, None, None, "no interval in the measured window")
    seconds = sum(i["seconds"] for i in received)
    rtts_us = [i["rtt"] for i in sent if "rtt" in i]
    return TcpResult(
        flow_id,
        goodput_mbps=sum(i["bytes"] for i in received) * 8 / seconds / 1e6,
        retransmits=sum(i["retransmits"] for i in sent),
        rtt_mean_ms=sum(rtts_us) / len(rtts_us) / 1000 if rtts_us else None,
    )


def _intervals(log: Path, started_s: float, since_s: float, until_s: float) -> list[dict[str, Any]]:
    """Stream figures of whole intervals inside [since, until]."""
    document = json.loads(log.read_text())
    # iperf3 tells its start in whole seconds; the later of the two is closer to the truth.
    zero_s = max(float(document["start"]["timestamp"]["timesecs"]), started_s)
    streams = [i["streams"][0] for i in document["intervals"] if i["streams"]]
    return [s for s in streams if zero_s + s["start"] >= since_s and zero_s + s["end"] <= until_s]


def main(arguments: list[str]) -> int:
    program = shutil.which("iperf3")
    if program is None:
        print("iperf3 is not installed (Debian package iperf3)", file=sys.stderr)
        return 1
    os.execv(program, ["iperf3", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
