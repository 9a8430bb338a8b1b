"""The two ways to forward: which there are, what each needs, which one this machine gets.

Slices are the same in both (one contract test, `tests/contract/test_datapath.py`).
Kernel mode: Open vSwitch's kernel datapath, `set_queue` honoured by it, delay and
loss by netem.  Userspace mode: vswitchd forwards itself, a BPF filter chooses
queues, wirefilter delays; it runs on kernels without the module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from topologies import switch_probe
from topologies.errors import EmulationError, RequirementError
from topologies.namespaces import try_in_scratch


class Datapath(StrEnum):
    """Where packets are forwarded."""

    KERNEL = "kernel"
    USERSPACE = "userspace"

    @property
    def ovs_type(self) -> str:
        """`datapath_type` of a bridge."""
        return "system" if self is Datapath.KERNEL else "netdev"

    @property
    def delay(self) -> str:
        """What delays on links that ask for it."""
        return "netem" if self is Datapath.KERNEL else "wirefilter"


Asked = Literal["auto", "kernel", "userspace"]

VETH = "ip link add name probe0 type veth peer name probe1"
KERNEL_PROBES = {
    # feature: (commands in a scratch namespace, what it is needed for); what is a module is loaded
    "openvswitch": ("ovs-dpctl add-dp probe && ovs-dpctl del-dp probe", "the kernel datapath"),
    "netem": (
        f"{VETH} && tc qdisc add dev probe0 root netem delay 1ms loss 1% limit 1000",
        "delay and loss of links",
    ),
    "mirred": (
        f"{VETH} && tc qdisc add dev probe0 ingress && tc filter add dev probe0 parent ffff: "
        "protocol all matchall action mirred egress redirect dev probe1",
        "joining the two halves of a link with delay",
    ),
}


@dataclass(frozen=True)
class Choice:
    """`missing`: feature -> why kernel mode is not possible here; empty when it is."""

    datapath: Datapath
    missing: dict[str, str]

    @property
    def kernel_mode(self) -> str:
        """For people: is kernel mode possible, and if not, why."""
        if not self.missing:
            return "possible: " + ", ".join([*KERNEL_PROBES, "meters"]) + " tried and found working"
        return "not possible here: " + "; ".join(f"{k} ({v})" for k, v in self.missing.items())


def choose(asked: Asked) -> Choice:
    """Kernel mode where all that it needs works, else userspace, unless one is asked for.

    Tries things, as root; under a second.  Raises `RequirementError` when kernel
    mode is asked for and not possible.
    """
    missing = missing_for_kernel_mode()
    if asked == "kernel" and missing:
        first = next(f"{feature}, {why}" for feature, why in missing.items())
        raise RequirementError(
            f"datapath: kernel mode is not possible here: this kernel has no {first}; "
            "use --set datapath=userspace, or a kernel that has it (./testbed.sh vm run has one)"
        )
    if asked == "auto":
        return Choice(Datapath.USERSPACE if missing else Datapath.KERNEL, missing)
    return Choice(Datapath(asked), missing)


def missing_for_kernel_mode() -> dict[str, str]:
    """Feature -> what refused it. Meters last, in a real switch: only when the rest works."""
    missing = {}
    for feature, (command, purpose) in KERNEL_PROBES.items():
        refusal = try_in_scratch(command)
        if refusal is not None:
            missing[feature] = f"for {purpose}: {refusal}"
    if not missing:
        try:
            switch_probe.try_meters(Datapath.KERNEL.ovs_type)
        except EmulationError as error:
            missing["meters"] = f"{error} (Linux 4.18 or newer has them)"
    return missing
