"""The serving core driven over a log: lists and examples to learn from."""
