"""Everything the SDK raises, as one tree.

XappError
├── SettingsError   the environment or the configuration is not what it has to be
├── ModelError      a model file that is missing, altered, or does not fit its contract
├── EventError      a line of the stream that is no event
├── Unreachable     the API does not answer (it may again later)
└── ApiError        the API answered with an error that trying again does not cure
"""

from __future__ import annotations


class XappError(Exception):
    """Base; the message is one line and says what would be right."""


class SettingsError(XappError):
    pass


class ModelError(XappError):
    pass


class EventError(XappError):
    pass


class Unreachable(XappError):
    pass


class ApiError(XappError):
    """`status` is HTTP's; `hint` what the API says would be right."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(f"{status}: {message}" + (f" ({hint})" if hint else ""))
        self.status = status
        self.hint = hint
