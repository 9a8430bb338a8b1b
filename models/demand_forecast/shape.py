"""Sizes and scales that training, evaluation, contract and tests share; no torch in here."""

HISTORY_STEPS = 20
SAMPLE_PERIOD_S = 0.5
HORIZON_STEPS = 4
QUANTILES = (0.5, 0.9, 0.97)
USERS_SCALE = 10.0
"""Slot 1 of the history is the number of users divided by this."""
SCALE_FLOOR = 0.005
"""Demand below this share of the capacity is not magnified to the network's full range."""
