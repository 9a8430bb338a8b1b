"""The network: three small layers from what a twin shows to two times. Needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.residence_forecast.shape import FEATURES, QUANTILES

HIDDEN = 48


class ResidenceForecast(nn.Module):
    """Input `features`, float32 [batch, 17]: one user and one cell; slots in model.json.

    Output `until`, float32 [batch, 3]: quantiles 0.1, 0.5, 0.9 of the time until the cell
    serves the user, 10 s = 1 (10 s: not within that time).  Output `stay`, float32
    [batch, 3]: of how long it then does, 20 s = 1, at most 30 s.  Never below 0, never
    crossing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(len(FEATURES), HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, 2 * len(QUANTILES)),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        steps = functional.softplus(self.layers(features))
        count = len(QUANTILES)
        return torch.cumsum(steps[:, :count], dim=1), torch.cumsum(steps[:, count:], dim=1)


def loss_of(until: Tensor, stay: Tensor, wanted_until: Tensor, wanted_stay: Tensor) -> Tensor:
    """Pinball loss; of the stay only where one begins (its target is a number)."""
    begins = ~torch.isnan(wanted_stay)
    staying = pinball(stay[begins], wanted_stay[begins])
    return pinball(until, wanted_until) + staying


def pinball(forecast: Tensor, target: Tensor) -> Tensor:
    levels = torch.tensor(QUANTILES)
    error = target[:, None] - forecast
    return torch.maximum(levels * error, (levels - 1) * error).mean()
