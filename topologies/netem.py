"""Wires with delay or loss in kernel mode: two veth pairs, joined in the middle, with netem.

    port =veth= near | far =veth= port or host

The switch's end belongs to Open vSwitch, whose queue tree is its root qdisc, so
netem has no place there.  It sits on the two inner ends: what comes in at one is
redirected (mirred) to leave at the other, delayed by the netem of that one.  The
rate of such a link is not the wire's work: the queue trees at both ends do it.
"""

from __future__ import annotations

from topologies.errors import CommandError, WireError
from topologies.namespaces import run

LIMIT_PACKETS = 100_000
"""In flight each way; only what is under way takes memory. netem's own default, 1,000,
would lose frames of 1 Gbit/s from 12 ms on."""


def inner_ends(interface: str) -> tuple[str, str]:
    """Names of the inner ends of the wire whose switch end is `interface` (15 characters most)."""
    return f"{interface}n", f"{interface}f"


class NetemWire:
    """One wire whose interfaces exist. Delay and loss are each way and may change live."""

    def __init__(self, interface: str, delay_ms: float, loss_ratio: float) -> None:
        self._interface = interface
        self._near, self._far = inner_ends(interface)
        self.delay_ms, self.loss_ratio = delay_ms, loss_ratio

    def start(self) -> None:
        """Join the halves, in the current namespace. Raises `WireError`."""
        lines = []
        for ours, other in ((self._near, self._far), (self._far, self._near)):
            lines += [
                f"qdisc replace dev {ours} root handle 1: {self._netem()}",
                f"qdisc replace dev {ours} ingress",
                f"filter replace dev {ours} parent ffff: protocol all prio 1 handle 1 matchall "
                f"action mirred egress redirect dev {other}",
            ]
        try:
            run(["ip", "link", "set", self._near, "up"])
            run(["ip", "link", "set", self._far, "up"])
        except CommandError as error:
            raise WireError(f"wire {self._interface}: {error}") from error
        self._tc(lines)

    @property
    def ready(self) -> bool:
        """It carries as soon as it is configured."""
        return True

    def set_delay(self, delay_ms: float) -> None:
        """Frames under way keep the delay that they left with. Raises `WireError`."""
        self._change(delay_ms, self.loss_ratio)

    def set_loss(self, loss_ratio: float) -> None:
        """Raises `WireError`."""
        self._change(self.delay_ms, loss_ratio)

    def stop(self) -> None:
        """Nothing runs; the interfaces go with their namespaces."""

    def _change(self, delay_ms: float, loss_ratio: float) -> None:
        before = self.delay_ms, self.loss_ratio
        self.delay_ms, self.loss_ratio = delay_ms, loss_ratio
        try:
            self._tc(
                [
                    f"qdisc change dev {end} root handle 1: {self._netem()}"
                    for end in (self._near, self._far)
                ]
            )
        except WireError:
            self.delay_ms, self.loss_ratio = before
            raise

    def _netem(self) -> str:
        loss_pct = 100 * self.loss_ratio
        return f"netem limit {LIMIT_PACKETS} delay {self.delay_ms:g}ms loss {loss_pct:g}%"

    def _tc(self, lines: list[str]) -> None:
        try:
            run(["tc", "-batch", "-"], stdin="\n".join(lines) + "\n")
        except CommandError as error:
            raise WireError(f"wire {self._interface}: {error}") from error
