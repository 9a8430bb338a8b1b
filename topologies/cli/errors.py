"""What a command refuses to do, in one line that names the next step."""

from __future__ import annotations


class CommandRefused(Exception):
    """The command cannot be carried out; the message says why and what to do instead."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
