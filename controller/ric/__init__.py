"""The RIC: the centralized controller's process.

Slice and cell twins, the guard's pipeline of decisions, judging their effects,
the life cycle of xApps and the northbound API.  Started by `python -m controller.ric`.
"""
