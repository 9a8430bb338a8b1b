"""Sizes and scales that training, evaluation, contract, local controllers and tests share."""

HISTORY_STEPS = 13
"""Positions, the newest last: six seconds at the sample period."""
SAMPLE_PERIOD_S = 0.5
HORIZONS_S = (1.0, 2.0, 5.0, 10.0)
RADIUS_QUANTILES = (0.5, 0.9)
POSITION_SCALE_M = 100.0
"""Positions enter as metres from the newest one divided by this; forecasts leave so too."""
SPEED_FLOOR = 0.002
"""Movement per sample (in scaled units: 0.2 m) below which a user counts as standing."""
