"""Sharing strategies: ways to make one encoder out of seed models."""
