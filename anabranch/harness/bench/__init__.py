"""Benchmarks of the ranker, each with its baseline measured in the same run."""
