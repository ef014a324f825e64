"""Benchmarks of the ranker, each beside its baseline from the same run."""
