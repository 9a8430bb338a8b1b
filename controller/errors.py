"""Every error the controller raises on purpose.

ControllerError
├── UndeclaredMatchError    a rule that the pipeline's tables do not allow (our own mistake)
├── NetworkDescriptionError an inventory that cannot be turned into rules
├── EnforcementError        a change that was not made, or not confirmed
│   ├── UnknownTargetError  no such cell, user, slice or (slice, class) pair
│   ├── ReservationError    a reservation outside what the cell can promise
│   ├── SliceError          a slice that cannot be as it was asked to be
│   │   ├── SliceConflictError  in conflict with a slice that lives
│   │   └── AdmissionError      more than links can still promise, with the numbers
│   ├── MigrationError       (migration.py) a service stayed with, or went back to, its server
│   ├── SwitchRefusedError  a switch answered with an OpenFlow error
│   └── NotConfirmedError   barrier came back, the read-back shows something else
└── SwitchDatabaseError     OVSDB or vswitchd's control socket refused or is gone
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ControllerError(Exception):
    """Base of all."""


class UndeclaredMatchError(ControllerError):
    """A rule uses a match field, next table or register that its table does not declare."""


class NetworkDescriptionError(ControllerError):
    """The inventory contradicts itself or asks for what the pipeline cannot express."""


class EnforcementError(ControllerError):
    """A change of the network was not made, or is not certain to have been made."""


class UnknownTargetError(EnforcementError):
    """A cell, user, slice or (slice, class) pair that does not exist."""


class ReservationError(EnforcementError):
    """A reservation that the cell cannot promise."""


class SliceError(EnforcementError):
    """A slice's life cycle: what was asked cannot be."""


class SliceConflictError(SliceError):
    """A slice that lives has that id, name, S-NSSAI or coverage already."""


class AdmissionError(SliceError):
    """Links cannot promise what is asked; `rooms` has the numbers of each."""

    def __init__(self, message: str, rooms: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.rooms = tuple(rooms)


class SwitchRefusedError(EnforcementError):
    """A switch answered a change with an error; the message carries its reason."""


class NotConfirmedError(EnforcementError):
    """What was read back is not what was sent."""


class SwitchDatabaseError(ControllerError):
    """OVSDB or vswitchd refused a request or does not answer."""
