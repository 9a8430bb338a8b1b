"""What the emulation counts at a user's radio port: L2 totals, and what is so at that moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WayCount:
    """One direction at one moment (CLOCK_REALTIME). Totals since the port exists."""

    taken_at_ns: int
    rate_kbps: float
    """What the scheme in use on the channel of the moment lets through."""
    sent_bytes: int
    sent_packets: int
    dropped_packets: int
    """By full queues in front of the radio."""
    waiting_packets: int


@dataclass(frozen=True)
class RadioPort:
    """`down` to the user, `up` from it."""

    down: WayCount
    up: WayCount

    @classmethod
    def from_json(cls, document: dict[str, dict[str, float]]) -> RadioPort:
        return cls(**{way: WayCount(**count) for way, count in document.items()})  # type: ignore[arg-type]
