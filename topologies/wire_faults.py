"""Breaking a wire between two switches on purpose: with the carrier, or silently.

Acts on the interfaces at the wire's two ends, in the run's namespace.  A silent
failure drops what either end sends behind Open vSwitch's back (a classic-BPF program
at the interface's egress hook), so that only a probe over the wire can notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from topologies.namespaces import run_in

_DROP_ALL = "1,6 0 0 2"
"""Return TC_ACT_SHOT for every frame."""


def take_carrier(namespace: Path, interfaces: Sequence[str]) -> None:
    """One end of a veth pair is enough: the other loses its carrier with it."""
    run_in(namespace, ["ip", "link", "set", "dev", interfaces[0], "down"])


def give_carrier(namespace: Path, interfaces: Sequence[str]) -> None:
    run_in(namespace, ["ip", "link", "set", "dev", interfaces[0], "up"])


def silence(namespace: Path, interfaces: Sequence[str]) -> None:
    """Both ways, or with one interface only what that one sends."""
    for name in interfaces:
        run_in(namespace, ["tc", "qdisc", "add", "dev", name, "clsact"])
    for name in interfaces:
        words = ["egress", "bpf", "direct-action", "bytecode", _DROP_ALL]
        run_in(namespace, ["tc", "filter", "add", "dev", name, *words])


def unsilence(namespace: Path, interfaces: Sequence[str]) -> None:
    for name in interfaces:
        run_in(namespace, ["tc", "qdisc", "del", "dev", name, "clsact"])
