"""Evaluation: baselines, the prequential protocol, seed models alone, and the comparisons that the gate needs."""
