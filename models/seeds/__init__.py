"""Seed models, one file each. The shared encoder learns from their top-k lists."""
