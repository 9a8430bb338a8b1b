"""The network: a small GRU over the demand history of one slice in one cell.

Needs torch: for training and its tests only.  The running testbed uses the exported ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.demand_forecast.shape import HISTORY_STEPS, QUANTILES, SCALE_FLOOR

FEATURES = 6
HIDDEN = 32
SHARPNESS = 20.0
"""Of the softplus around the median: at this value it is the identity from 0.2 up."""


class DemandForecast(nn.Module):
    """Quantiles of the maximum demand over the next `HORIZON_STEPS` samples.

    Input `history`, float32 [batch, 20, 2], oldest sample first, 0.5 s apart:

    | slot | meaning                                   | unit                | range |
    |------|-------------------------------------------|---------------------|-------|
    | 0    | demand of the slice in the cell, L2       | cell's capacity = 1 | 0-2   |
    | 1    | users of the slice in the cell            | 10 users = 1        | 0-10  |

    Output `quantiles`, float32 [batch, 3]: 0.5, 0.9, 0.97 in shares of the capacity.
    They never cross: each is the one before plus a softplus.  Inside, every history is
    divided by its own maximum, so that a small slice is forecast like a large one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, len(QUANTILES))

    def forward(self, history: Tensor) -> Tensor:
        scale = scale_of(history)
        demand = history[:, :, 0] / scale
        states, _ = self.gru(features_of(history, demand, scale))
        shifts = self.head(states[:, -1])
        median = functional.softplus(demand[:, -1:] + shifts[:, :1], beta=SHARPNESS)
        gaps = functional.softplus(shifts[:, 1:] - 3.0)
        levels = torch.cat([median, gaps], dim=1)
        return torch.cumsum(levels, dim=1) * scale


def scale_of(history: Tensor) -> Tensor:
    """[batch, 1]: the history's maximum demand, or the floor above nothing."""
    return torch.amax(history[:, :, 0], dim=1, keepdim=True) + SCALE_FLOOR


def features_of(history: Tensor, demand: Tensor, scale: Tensor) -> Tensor:
    """[batch, step, 6]: demand and its change, per-step and over 2 s, users and theirs, scale."""
    users = history[:, :, 1]
    step_change = demand[:, 1:] - demand[:, :-1]
    slow_change = demand[:, 4:] - demand[:, :-4]
    users_change = users[:, 1:] - users[:, :-1]
    size = torch.log(scale) / 4.0 + 0.5
    return torch.stack(
        [
            demand - 0.5,
            4.0 * functional.pad(step_change, (1, 0)),
            2.0 * functional.pad(slow_change, (4, 0)),
            users - 0.3,
            4.0 * functional.pad(users_change, (1, 0)),
            size.expand(-1, HISTORY_STEPS),
        ],
        dim=2,
    )


def pinball_loss(forecast: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Mean over quantiles and batch, in units of each history's own scale."""
    error = (target[:, None] - forecast) / scale
    levels = torch.tensor(QUANTILES)
    return torch.maximum(levels * error, (levels - 1) * error).mean()
