"""Slots and scales that training, evaluation, contract, xApp and tests share."""

HORIZONS_S = (1.0, 2.0, 5.0, 10.0)
"""Of the predicted places in user twins."""
SAMPLE_PERIOD_S = 0.5
QUANTILES = (0.1, 0.5, 0.9)
MARGIN_SCALE_DB, SLOPE_SCALE_DB, RADIUS_SCALE_M, SPEED_SCALE_MPS = 20.0, 5.0, 100.0, 30.0
STAY_SCALE_S = 20.0
UNTIL_SCALE_S = 10.0
STAYS_REMEMBERED = 4
STAY_MAX_S = 60.0
"""A longer stay counts as this one in the features."""
UNTIL_HORIZON_S = 10.0
"""`until` is this for a cell that does not come to serve the user before."""
STAY_HORIZON_S = 30.0
SLOPE_DB_PER_DECADE = 21.0
"""Of street canyons (TR 38.901 UMi, line of sight): how a predicted place changes the RSRP."""
SHORTEST_M = 10.0
FEATURES = (
    "margin",
    "margin-change",
    *(f"margin-in-{h:g}s" for h in HORIZONS_S),
    *(f"radius-in-{h:g}s" for h in HORIZONS_S),
    "speed",
    "is-serving",
    "time-in-serving-cell",
    "last-stay",
    "mean-stay",
    "stays",
    "mean-stay-in-serving-cell",
)
