"""Breaking a wire between two switches on purpose: with the carrier, silently, or its rate.

Acts on the interfaces at the wire's two ends, in the run's namespace.  A silent
failure drops what either end sends behind Open vSwitch's back (a classic-BPF program
at the interface's egress hook), so that only a probe over the wire can notice.  A
squeezed link carries less than its queue tree promises: its classes keep their
priorities and lose their guarantees.
"""

from __future__ import annotations

import re
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


_CLASS = re.compile(
    r"class htb (?P<id>\S+) (?:root|parent (?P<parent>\S+)) (?:leaf \S+ )?(?:prio (?P<prio>\d+) )?"
    r"rate (?P<rate>\S+) ceil (?P<ceil>\S+) burst (?P<burst>\S+) cburst (?P<cburst>\S+)"
)
_LEAST_KBPS = 12


def squeeze(namespace: Path, interface: str, rate_kbps: int) -> list[list[str]]:
    """What the interface sends shall be this at most, as if the link had become worse.

    Returns what `unsqueeze` takes.  Open vSwitch is not told, so nobody repairs it.
    """
    shown = run_in(namespace, ["tc", "class", "show", "dev", interface])
    undo = []
    for found in _CLASS.finditer(shown):
        floor = f"{rate_kbps}kbit" if found["parent"] is None else f"{_LEAST_KBPS}kbit"
        undo.append(_class_of(interface, found, found["rate"], found["ceil"]))
        run_in(namespace, _class_of(interface, found, floor, f"{rate_kbps}kbit"))
    return undo


def unsqueeze(namespace: Path, undo: Sequence[Sequence[str]]) -> None:
    for command in undo:
        run_in(namespace, command)


def _class_of(interface: str, found: re.Match[str], rate: str, ceil: str) -> list[str]:
    parent = ["root"] if found["parent"] is None else ["parent", found["parent"]]
    prio = [] if found["prio"] is None else ["prio", found["prio"]]
    rates = ["rate", rate, "ceil", ceil, "burst", found["burst"], "cburst", found["cburst"]]
    place = ["dev", interface, *parent, "classid", found["id"]]
    return ["tc", "class", "change", *place, "htb", *prio, *rates]
