"""A handover as a sequence of phases, each one attachment and the switches it touches. Pure.

Make-before-break: the air accepts the user from both cells, then the target's switch
carries it (in this order, for servers at that switch are heard there at once); then the
core (the branching switch) and the air flip; what is on its way through the source
drains; then the source's switch, and last the air, forget it.
Every packet always has a rule, so none is lost to the rules.

Break-before-make: for the interruption the user has no radio link; what is sent to it
or by it is dropped and counted by the air's miss rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controller.contracts.inventory import SwitchRole
from controller.network_state import Attachment
from controller.network_view import Network

HandoverMode = Literal["make_before_break", "break_before_make"]

BACKHAUL_DRAIN_MS = 500
"""Packets the core had sent towards the source when it flipped."""
QUEUE_DRAIN_MS = 1500
"""A full downlink queue of the source: 100 full frames at 5 Mbit/s."""


@dataclass(frozen=True)
class Phase:
    """`steps`: groups of switches, one group after the other. `wait_ms`: before the phase."""

    attachment: Attachment
    steps: tuple[tuple[str, ...], ...]
    wait_ms: int = 0
    after_break_ms: int = 0
    """Not before so long after the first phase was sent: its rules take as long to take effect
    as those that end the interruption, so the interruption is this, not this and a round trip."""


@dataclass(frozen=True)
class HandoverPlan:
    """`switching` must be confirmed for the user to be at the target; `clearing` may follow."""

    switching: tuple[Phase, ...]
    clearing: tuple[Phase, ...]

    @property
    def final(self) -> Attachment:
        return (*self.switching, *self.clearing)[-1].attachment


def plan(
    network: Network, source: str, target: str, mode: HandoverMode, interruption_ms: int = 0
) -> HandoverPlan:
    """From cell `source` to cell `target` (ids, different); the interruption is the break's."""
    if mode == "make_before_break":
        return _make_before_break(network, source, target)
    return _break_before_make(network, source, target, interruption_ms)


def _make_before_break(network: Network, source: str, target: str) -> HandoverPlan:
    air, core = _air(network), network.core
    far, near = network.cells[target].switch, network.cells[source].switch
    either, only = frozenset({source, target}), frozenset({target})
    return HandoverPlan(
        switching=(
            Phase(Attachment(source, source, either, either), ((air,), (far,))),
            Phase(Attachment(target, target, either, either), ((core,), (air,))),
        ),
        clearing=(
            Phase(Attachment(target, target, only, either), ((near,),), BACKHAUL_DRAIN_MS),
            Phase(Attachment(target, target, only, only), ((air,),), QUEUE_DRAIN_MS),
        ),
    )


def _break_before_make(
    network: Network, source: str, target: str, interruption_ms: int
) -> HandoverPlan:
    """The air takes the user off both cells; the path moves meanwhile, the air comes last."""
    air, core = _air(network), network.core
    far, near = network.cells[target].switch, network.cells[source].switch
    nowhere: frozenset[str] = frozenset()
    return HandoverPlan(
        switching=(
            Phase(Attachment(source, None, nowhere, nowhere), ((air, near),)),
            Phase(Attachment(target, None, frozenset({target}), nowhere), ((far,), (core,))),
            Phase(Attachment.at(target), ((air,),), after_break_ms=interruption_ms),
        ),
        clearing=(),
    )


def _air(network: Network) -> str:
    return next(s.name for s in network.switches.values() if s.role is SwitchRole.AIR)
