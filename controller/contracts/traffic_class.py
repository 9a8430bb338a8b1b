"""The four traffic classes, apart from the documents that name them: a command's option needs
them before it is known whether any document will be read."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TrafficClass(StrEnum):
    """The four classes of SD-Fabric's QoS model."""

    BEST_EFFORT = "best_effort"
    ELASTIC = "elastic"
    REAL_TIME = "real_time"
    CONTROL = "control"

    @property
    def code(self) -> int:
        """The two low bits of the DSCP."""
        return _CODES[self]


class TrafficClassCode(IntEnum):
    BEST_EFFORT = 0
    ELASTIC = 1
    REAL_TIME = 2
    CONTROL = 3


_CODES = {c: TrafficClassCode[c.name].value for c in TrafficClass}
