"""What can go wrong in the physical space; every message says what would be right.

EmulationError
├── RequirementError   this machine lacks something the testbed needs
├── NamespaceError     a network namespace is missing, or is not ours
├── CommandError       a system tool (ip, tc, ethtool, nsenter) refused
├── SwitchError        the private Open vSwitch did not do what it was told
├── WireError          a wire with delay or loss did not come up
├── MachineError       the virtual machine for kernel mode cannot be made, started or reached
├── LifecycleError     a run cannot be started, or did not become ready
└── CleanupError       something a run made is still there after its removal
"""

from __future__ import annotations


class EmulationError(Exception):
    """Root of all errors of building, running and removing the emulated network."""


class RequirementError(EmulationError):
    """This machine cannot run the testbed; the message names the next step."""


class NamespaceError(EmulationError):
    """A network namespace does not exist, exists already, or is not the expected one."""


class CommandError(EmulationError):
    """A command ended with a status other than 0; the message holds its own words."""


class SwitchError(EmulationError):
    """The private ovsdb-server or ovs-vswitchd failed, or its state is not as asked."""


class WireError(EmulationError):
    """A userspace wire failed to start or refused a change."""


class MachineError(EmulationError):
    """The virtual machine was not built, did not boot, or does not answer; names the next step."""


class LifecycleError(EmulationError):
    """A testbed is up already, a port is in use, or bring-up failed; names the next step."""


class CleanupError(EmulationError):
    """Processes, namespaces or files of a run survived its removal."""
