"""What becomes of measurements: statistics, the table of all benchmarks, and the growth curves."""
