"""The network: a small GRU over a user's last positions, in the frame of its heading.

Needs torch: for training and its tests only.  Local controllers use the exported ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.mobility_forecast.shape import (
    HORIZONS_S,
    RADIUS_QUANTILES,
    SAMPLE_PERIOD_S,
    SPEED_FLOOR,
)

FEATURES = 4
HIDDEN = 32


class MobilityForecast(nn.Module):
    """Displacement and radius for each of `HORIZONS_S`.

    Input `positions`, float32 [batch, 13, 2], oldest first, 0.5 s apart, relative to the
    newest (whose row is 0, 0):

    | slot | meaning         | unit      | range   |
    |------|-----------------|-----------|---------|
    | 0    | east of newest  | 100 m = 1 | -3 to 3 |
    | 1    | north of newest | 100 m = 1 | -3 to 3 |

    Output `displacement`, float32 [batch, 4, 2]: median way east and north from the newest
    position.  Output `radius`, float32 [batch, 4, 2]: quantiles 0.5 and 0.9 of the distance
    between that point and where the user then is; they never cross.

    The network turns each history to its own heading and divides it by its own pace, so
    a forecast turns and scales with the history.  It corrects constant velocity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, len(HORIZONS_S) * (2 + len(RADIUS_QUANTILES)))

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        steps = positions[:, 1:] - positions[:, :-1]
        pace = pace_of(steps)
        heading = heading_of(steps)
        turned = turn(steps / pace[:, :, None], heading, back=False)
        states, _ = self.gru(features_of(turned, pace))
        shape = (-1, len(HORIZONS_S), 2 + len(RADIUS_QUANTILES))
        shifts = self.head(states[:, -1]).reshape(shape)
        ahead = torch.tensor([h / SAMPLE_PERIOD_S for h in HORIZONS_S])[None, :, None]
        velocity = turned[:, -2:].mean(dim=1, keepdim=True)
        way = (velocity + shifts[:, :, :2]) * ahead
        radius = torch.cumsum(functional.softplus(shifts[:, :, 2:] - 2.0), dim=2) * ahead
        scale = pace[:, :, None]
        return turn(way, heading, back=True) * scale, radius * scale


def pace_of(steps: Tensor) -> Tensor:
    """[batch, 1]: mean movement per sample, with a floor for who stands."""
    length = torch.linalg.vector_norm(steps, dim=2)
    pace: Tensor = length.mean(dim=1, keepdim=True) + SPEED_FLOOR
    return pace


def heading_of(steps: Tensor) -> Tensor:
    """[batch, 2]: unit vector of the last second's way; east for who stands."""
    way = steps[:, -2:].sum(dim=1)
    length = torch.linalg.vector_norm(way, dim=1, keepdim=True)
    least = 0.1 * SPEED_FLOOR
    moving = (length > least).to(way.dtype)
    east = torch.tensor([[1.0, 0.0]])
    heading: Tensor = moving * way / torch.clamp(length, min=least) + (1.0 - moving) * east
    return heading


def turn(vectors: Tensor, heading: Tensor, back: bool) -> Tensor:
    """[batch, n, 2] into the frame (ahead, left) of the heading, or back out of it."""
    cosine, sine = heading[:, None, 0], heading[:, None, 1]
    if back:
        sine = -sine
    x, y = vectors[:, :, 0], vectors[:, :, 1]
    return torch.stack([cosine * x + sine * y, cosine * y - sine * x], dim=2)


def features_of(turned: Tensor, pace: Tensor) -> Tensor:
    """[batch, step, 4]: way ahead and left per sample, its length, how fast the user is."""
    size = (torch.log(pace) / 3.0 + 1.0)[:, :, None].expand(-1, turned.shape[1], -1)
    return torch.cat([turned, torch.linalg.vector_norm(turned, dim=2, keepdim=True), size], dim=2)


def loss_of(displacement: Tensor, radius: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Distance of the point forecast plus pinball loss of the radius, in units of scale."""
    distance = ((target - displacement) ** 2).sum(dim=2).add(1e-12).sqrt() / scale
    error = distance.detach()[:, :, None] - radius / scale[:, :, None]
    levels = torch.tensor(RADIUS_QUANTILES)
    pinball = torch.maximum(levels * error, (levels - 1) * error)
    return distance.mean() + pinball.mean()
