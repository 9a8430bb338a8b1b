"""Figures of the testbed, each as a ratio or against a reference of the same run."""
