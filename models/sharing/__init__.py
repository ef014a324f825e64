"""Sharing: ways to make one encoder out of seeds, one file per strategy."""
