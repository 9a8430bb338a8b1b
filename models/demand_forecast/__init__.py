"""Forecast of a slice's demand in a cell: quantiles of its maximum over the next two seconds."""
