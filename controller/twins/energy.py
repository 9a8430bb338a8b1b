"""Energy of slices: the power that an access point draws for a slice's downlink. Pure.

The model is stated, not measured here: the linear one of G. Auer et al., "How much energy is
needed to run a wireless network?", IEEE Wireless Communications 18(5), 2011, table 2 (per
transceiver): P = P0 + slope * Pmax * busy ratio.  A slice answers for the dynamic part that its
measured bits cost, and for the share of P0 that is reserved for it:

    power_w = slope * Pmax * delivered / capacity + P0 * reserved / capacity

The rest of P0 is the access point's own.  Kinds without figures there have no power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class PowerModel:
    """`idle_w`: P0; `slope` times `most_w` (Pmax): what a wholly busy cell draws on top."""

    idle_w: float
    slope: float
    most_w: float


POWER_MODELS: Mapping[str, PowerModel] = MappingProxyType(
    {
        "mbs": PowerModel(130.0, 4.7, 20.0),  # macro
        "sbs": PowerModel(56.0, 2.6, 6.3),  # micro
        "uav": PowerModel(6.8, 4.0, 0.13),  # pico; hovering is not counted
        "wifi": PowerModel(4.8, 8.0, 0.05),  # femto
    }
)
"""By the cell's kind."""


def slice_power_w(
    kind: str, delivered_kbps: float, reserved_kbps: float, capacity_kbps: float
) -> float | None:
    """None for a kind of cell that the model has no figures of."""
    model = POWER_MODELS.get(kind)
    if model is None:
        return None
    dynamic_w = model.slope * model.most_w * delivered_kbps / capacity_kbps
    return dynamic_w + model.idle_w * reserved_kbps / capacity_kbps
