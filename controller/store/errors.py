"""What can go wrong in the shared data layer, as one tree."""

from __future__ import annotations


class SdlTypeError(TypeError):
    """An argument of a wrong type: keys are text, values are bytes."""


class SdlException(Exception):
    """Base of what the backend could not do."""


class NotConnected(SdlException):
    """The backend cannot be reached."""


class BackendError(SdlException):
    """The backend failed; whether the change was made is unknown."""


class RejectedByBackend(SdlException):
    """The backend understood and refused."""
