"""Metrics of rankings and of probabilities, with confidence intervals."""
