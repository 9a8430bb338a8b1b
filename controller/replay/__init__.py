"""Replay: a recorded run's twins served again to xApps, over the same northbound API.

`recording` (a results folder as data) → `player` (when what happens) → `network` (what was
enforced then) → the RIC itself.  Decisions pass the guard and are recorded; nothing is enforced.
"""
