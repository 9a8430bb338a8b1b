"""Scenario files: what a testbed looks like and what happens on it."""
