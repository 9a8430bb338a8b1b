"""Whether a run may be believed, with reasons in words and numbers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from topologies.results.balance import Balance
from topologies.results.evidence import LoadSample

BUSY_RATIO = 0.85
BUSY_ALLOWED_S = 1.0
SLIP_P99_MS = 2.0
UNCOUNTED_A_CHANGE = 2
"""Packets. Measured: 0, 0, 0 and 2 at 220 drops/s on an emulated processor."""


def validity(
    load: Sequence[LoadSample],
    slip: dict[str, Any],
    balances: Sequence[Balance] | None,
    backlog_drops: int = 0,
    uncounted_allowed: int = 0,
) -> dict[str, Any]:
    """The summary's block. `load`: the samples of the measured window.

    `uncounted_allowed`: packets a slice may be short of, see `uncounted_allowed`.
    """
    reasons = [
        *_busy(load, "the machine", lambda sample: sample.machine_ratio),
        *_busy(load, "ovs-vswitchd's busiest thread", lambda sample: sample.vswitchd_ratio),
        *_late(slip),
        *_unbalanced(balances, uncounted_allowed),
        *_overrun(backlog_drops),
    ]
    return {
        "verdict": "invalid" if reasons else "valid",
        "reasons": reasons,
        "cpu_busy_ratio": _mean(load, lambda sample: sample.machine_ratio),
        "vswitchd_busy_ratio": _mean(load, lambda sample: sample.vswitchd_ratio),
        "timer_slip_p99_ms": slip["p99_ms"],
    }


Ratio = Callable[[LoadSample], float]


def _busy(load: Sequence[LoadSample], what: str, ratio: Ratio) -> list[str]:
    if not load:
        return [f"load of {what} was not sampled"]
    over_s = sum(s.duration_s for s in load if ratio(s) > BUSY_RATIO)
    if over_s <= BUSY_ALLOWED_S:
        return []
    most = max(ratio(s) for s in load)
    return [
        (
            f"{what} was over {BUSY_RATIO} busy for {over_s:.1f} s (allowed "
            f"{BUSY_ALLOWED_S:.0f} s), at most {most:.2f}"
        )
    ]


def _late(slip: dict[str, Any]) -> list[str]:
    if slip["p99_ms"] is None or slip["p99_ms"] <= SLIP_P99_MS:
        return []
    return [
        (
            f"probe timers slipped: p99 {slip['p99_ms']:.2f} ms of {slip['samples']} probes "
            f"(allowed {SLIP_P99_MS:.0f} ms), worst {slip['max_ms']:.1f} ms"
        )
    ]


def uncounted_allowed(datapath: str, meter_changes: int) -> int:
    """Kernel mode forwards on while a meter is replaced; what the old one drops between
    the reading of its counters and its end is lost to the count."""
    return UNCOUNTED_A_CHANGE * meter_changes if datapath == "kernel" else 0


def _unbalanced(balances: Sequence[Balance] | None, allowed: int) -> list[str]:
    if balances is None:
        return ["the switches' counters are missing, so there is no packet balance"]
    return [_unbalanced_words(b) for b in balances if not 0 <= b.missing <= allowed]


def _overrun(backlog_drops: int) -> list[str]:
    if backlog_drops == 0:
        return []
    return [
        f"{backlog_drops} frames were dropped by the processors' receive backlogs, before any "
        "switch saw them (net.core.netdev_max_backlog; whose they were nobody knows)"
    ]


def _unbalanced_words(balance: Balance) -> str:
    slices = " and ".join(str(slice_id) for slice_id in balance.slice_ids)
    known = []
    if balance.host_drops:
        known.append(f"{balance.host_drops} refused by sending hosts")
    if balance.socket_drops:
        known.append(f"{balance.socket_drops} dropped by full receive buffers")
    return (
        f"{balance.missing} packets of slice {slices} are unaccounted for: {balance.sent} sent, "
        f"{balance.received} received, {balance.meter_drops} dropped by meters, "
        f"{balance.queue_drops} by queues, {balance.function_drops} by functions, "
        f"{balance.rule_drops} by rules" + (f"; {', '.join(known)}" if known else "")
    )


def _mean(load: Sequence[LoadSample], ratio: Ratio) -> float | None:
    seconds = sum(s.duration_s for s in load)
    if seconds == 0:
        return None
    return round(sum(ratio(s) * s.duration_s for s in load) / seconds, 4)
