"""The local controller of one edge (VL1-VL3): collects, keeps user twins, aggregates."""
