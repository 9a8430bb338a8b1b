"""What the RIC refuses, as one tree; the API turns each into a status and {error, hint}."""

from __future__ import annotations


class RicError(Exception):
    """Base: `message` says what was wrong, `hint` what would be right."""

    status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unauthenticated(RicError):
    status = 401


class Forbidden(RicError):
    status = 403


class NotFound(RicError):
    status = 404


class Conflict(RicError):
    status = 409


class Malformed(RicError):
    """Well-formed JSON that says nothing the RIC could do."""

    status = 422


class Unreachable(RicError):
    """Another process of the testbed does not answer."""

    status = 503


class StartError(Exception):
    """The RIC cannot start; the message is the one line that the user sees."""
